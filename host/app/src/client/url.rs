//! A server's address: `http://` or `https://`, a host, a port, and perhaps a path that a proxy puts before the server's own.

use std::fmt;

use hyper::Uri;

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerUrl {
    text: String,
    /// Whether it is spoken to over TLS.
    pub(crate) is_https: bool,
    /// A name, or an address without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// For the header `Host`.
    pub(crate) authority: String,
    prefix: String,
}

impl ServerUrl {
    /// Where a server's control listener is if nobody says otherwise.
    pub(crate) fn control() -> Self {
        Self::parse("http://127.0.0.1:8081").expect("invariant: it is one")
    }

    /// Where its functions are.
    pub(crate) fn functions() -> Self {
        Self::parse("http://127.0.0.1:8080").expect("invariant: it is one")
    }

    /// Reads an address.
    ///
    /// # Errors
    /// In words, if it is none.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no server: it must look like http://127.0.0.1:8080");
        let text = text.trim_end_matches('/');
        let uri: Uri = text.parse().map_err(|_error| wrong())?;
        let is_https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong()),
        };
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        if authority.contains('@') {
            return Err("a server's address has no user name in it: keys are given by a profile".to_owned());
        }
        if uri.query().is_some() {
            return Err(wrong());
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(wrong)?;
        Ok(Self {
            text: text.to_owned(),
            is_https,
            host: host.trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(if is_https { 443 } else { 80 }),
            authority,
            prefix: uri.path().trim_end_matches('/').to_owned(),
        })
    }

    /// A path of the server's, with its query, as it is asked for.
    pub(crate) fn path(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    /// Whether a key would travel where others may read it.
    pub(crate) fn is_open(&self) -> bool {
        let is_local = self.host == "localhost" || self.host.parse().is_ok_and(|host: std::net::IpAddr| host.is_loopback());
        !self.is_https && !is_local
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let read =
            |text: &str| ServerUrl::parse(text).map(|url| (url.is_https, url.host.clone(), url.port, url.path("/v1"))).ok();
        let of = |is_https, host: &str, port, path: &str| Some((is_https, host.to_owned(), port, path.to_owned()));
        assert_eq!(read("http://127.0.0.1:8081"), of(false, "127.0.0.1", 8081, "/v1"));
        assert_eq!(read("https://models.example.com/"), of(true, "models.example.com", 443, "/v1"));
        assert_eq!(read("http://[::1]:8081"), of(false, "::1", 8081, "/v1"));
        assert_eq!(read("https://example.com/sandmill/"), of(true, "example.com", 443, "/sandmill/v1"));
        for text in ["", "nonsense", "127.0.0.1:8080", "ftp://host", "http://", "http://me:secret@host", "http://host/?x=1"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_key_is_safe_here_and_over_tls() {
        let is_open = |text| ServerUrl::parse(text).expect("an address").is_open();
        assert!(!is_open("http://127.0.0.1:1") && !is_open("http://[::1]:1") && !is_open("http://localhost"));
        assert!(!is_open("https://example.com"));
        assert!(is_open("http://example.com") && is_open("http://10.0.0.1:8081"));
    }
}
