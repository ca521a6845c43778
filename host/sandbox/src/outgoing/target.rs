//! Where a request wants to go, and whether its function may send it there. Resolves nothing, connects to nothing.

use std::fmt;
use std::net::IpAddr;

use http::Uri;
use http::uri::Scheme;
use sandmill_domain::Origin;

/// The host and port of a request's authority, in one spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) host: Host,
    pub(super) port: u16,
    pub(super) tls: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    /// In lower case.
    Name(String),
    Address(IpAddr),
}

impl Target {
    /// None for an authority with anything but a plain name or an address, and perhaps a port: what two parsers could
    /// read as two hosts is refused.
    pub(super) fn of(uri: &Uri) -> Option<Self> {
        let authority = uri.authority()?;
        let tls = uri.scheme() == Some(&Scheme::HTTPS);
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let whole = match authority.port_u16() {
            Some(port) => format!("{}:{port}", authority.host()) == authority.as_str(),
            None => authority.host() == authority.as_str(),
        };
        let host = Host::of(authority.host())?;
        (whole && port > 0).then_some(Self { host, port, tls })
    }

    /// Whether one of the origins means it.
    pub(super) fn is_among(&self, origins: &[Origin]) -> bool {
        let host = match &self.host {
            Host::Name(name) => name.clone(),
            Host::Address(address) => address.to_string(),
        };
        origins.iter().any(|origin| origin.matches(&host, self.port))
    }

    /// What the server is told in `host`: without the port that goes without saying.
    pub(super) fn header(&self) -> String {
        if self.port == if self.tls { 443 } else { 80 } { self.host.to_string() } else { self.to_string() }
    }
}

impl Host {
    fn of(text: &str) -> Option<Self> {
        if let Some(address) = text.strip_prefix('[') {
            return address.strip_suffix(']')?.parse().ok().map(|address| Self::Address(IpAddr::V6(address)));
        }
        match text.parse() {
            Ok(address) => Some(Self::Address(IpAddr::V4(address))),
            Err(_) => is_name(text).then(|| Self::Name(text.to_ascii_lowercase())),
        }
    }
}

/// Whether it is a name to every resolver. The C library reads `127.1`, `0x7f000001` and `2130706433` as addresses; as for
/// browsers (<https://url.spec.whatwg.org/#ends-in-a-number-checker>), no name ends in a number.
fn is_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    let number = last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x") || last.starts_with("0X");
    text.len() <= 253 && text.split('.').all(label) && !number
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(uri: &str) -> Option<Target> {
        Target::of(&uri.parse().ok()?)
    }

    #[test]
    fn authorities_are_read_in_one_way() {
        let cases = [
            ("http://a.b/", Some(("a.b:80", "a.b"))),
            ("https://A.b/x?y", Some(("a.b:443", "a.b"))),
            ("http://a.b:443/", Some(("a.b:443", "a.b:443"))),
            ("https://a.b:8443/", Some(("a.b:8443", "a.b:8443"))),
            ("http://10.0.0.5:8080/", Some(("10.0.0.5:8080", "10.0.0.5:8080"))),
            ("http://[0:0::1]:81/", Some(("[::1]:81", "[::1]:81"))),
            ("http://[::ffff:10.0.0.5]/", Some(("[::ffff:10.0.0.5]:80", "[::ffff:10.0.0.5]"))),
            ("http://my_host/", Some(("my_host:80", "my_host"))),
            ("http://1password.com/", Some(("1password.com:80", "1password.com"))),
            ("http://4f5a/", Some(("4f5a:80", "4f5a"))),
            ("http://user@a.b/", None),
            ("http://a.b@c.d:80/", None),
            ("http://a.b:/", None),
            ("http://a.b:080/", None),
            ("http://a.b:0/", None),
            ("http://a.b./", None),
            ("http://a..b/", None),
            ("http://a%2eb/", None),
            ("http://127.1/", None),
            ("http://0x7f000001/", None),
            ("http://2130706433/", None),
            ("http://0177.0.0.1/", None),
            ("http://a.1/", None),
            ("/no-authority", None),
        ];
        for (uri, expected) in cases {
            let read = target(uri).map(|target| (target.to_string(), target.header()));
            assert_eq!(read.as_ref().map(|(whole, header)| (whole.as_str(), header.as_str())), expected, "{uri}");
        }
    }

    #[test]
    fn a_function_calls_its_origins_alone() {
        let cases = [
            ("http://a.b/", &["a.b"][..], true),
            ("http://a.b/", &["a.b:80"], true),
            ("https://a.b/", &["a.b:80"], false),
            ("https://a.b/", &["c.d", "A.B:443"], true),
            ("http://c.a.b/", &["a.b"], false),
            ("http://a.b/", &["*"], true),
            ("http://a.b/", &["*:443"], false),
            ("http://10.0.0.5/", &["*"], false),
            ("http://10.0.0.5/", &["10.0.0.5:80"], true),
            ("http://[0::1]/", &["::1"], true),
            ("http://[::ffff:10.0.0.5]/", &["10.0.0.5"], false),
            ("http://a.b/", &[], false),
        ];
        for (uri, origins, expected) in cases {
            let origins: Vec<Origin> = origins.iter().map(|origin| origin.parse().unwrap()).collect();
            assert_eq!(target(uri).unwrap().is_among(&origins), expected, "{uri} {origins:?}");
        }
    }
}
