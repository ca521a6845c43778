//! What a plugin may do beyond computing: nothing, unless it is granted by name. Knows no runtime and opens nothing.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use thiserror::Error;

/// The grants of one function; by default none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// `wasi:clocks/wall-clock`.
    pub wall_clock: bool,
    /// `wasi:clocks/monotonic-clock`.
    pub monotonic_clock: bool,
    /// `wasi:random/random`.
    pub randomness: bool,
    /// The values of `wasi:cli/environment`.
    pub environment: Vec<(String, String)>,
    /// The function's assets as a read-only folder, `/assets`, through `wasi:filesystem`.
    pub asset_files: bool,
    /// Where `wasi:http` requests may go.
    pub http: Vec<Origin>,
}

/// What a host grants at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantsMax {
    /// The wall clock.
    pub wall_clock: bool,
    /// The monotonic clock.
    pub monotonic_clock: bool,
    /// Secure randomness.
    pub randomness: bool,
    /// Values of the environment.
    pub environment: bool,
    /// Assets as files.
    pub asset_files: bool,
    /// Where requests may go. An address that is not of the public Internet (loopback, private, link-local, …) is connected
    /// to only if it stands here itself, whatever name led to it.
    pub http: Vec<Origin>,
}

impl Default for GrantsMax {
    fn default() -> Self {
        Self { wall_clock: true, monotonic_clock: true, randomness: true, environment: true, asset_files: true, http: Vec::new() }
    }
}

impl Grants {
    /// The names, as in `function.toml`, of all that is granted here but not by the host.
    pub fn beyond(&self, max: &GrantsMax) -> Vec<String> {
        let flags = [
            ("wall_clock", self.wall_clock, max.wall_clock),
            ("monotonic_clock", self.monotonic_clock, max.monotonic_clock),
            ("randomness", self.randomness, max.randomness),
            ("environment", !self.environment.is_empty(), max.environment),
            ("asset_files", self.asset_files, max.asset_files),
        ];
        let flags = flags.into_iter().filter(|(_, asked, granted)| *asked && !granted).map(|(name, ..)| name.to_owned());
        let origins = self.http.iter().filter(|origin| !max.http.iter().any(|host| host.covers(origin)));
        flags.chain(origins.map(|origin| format!("http to {origin}"))).collect()
    }
}

/// A host that requests may go to: a name or an address, on one port or on any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// In lower case; `*` stands for every name, but for no address.
    pub host: String,
    /// None for any.
    pub port: Option<u16>,
}

impl Origin {
    /// The address, if the host is one.
    pub fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// Whether a request to this host and port is meant; an IPv6 host without brackets.
    pub fn matches(&self, host: &str, port: u16) -> bool {
        let any = self.host == "*" && host.parse::<IpAddr>().is_err();
        (any || self.host.eq_ignore_ascii_case(host)) && self.port.is_none_or(|own| own == port)
    }

    /// Whether everything that `other` allows is allowed here.
    fn covers(&self, other: &Self) -> bool {
        let host = self.host == other.host || (self.host == "*" && other.address().is_none());
        host && (self.port.is_none() || self.port == other.port)
    }
}

/// Why a text names no origin.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "`{0}` is no host: expected a name or an address, with or without a port, such as api.example.com, 10.0.0.5:8080 or [::1]:80"
)]
pub struct OriginError(String);

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let invalid = || OriginError(text.chars().take(100).collect());
        let (host, port) = split(text).ok_or_else(invalid)?;
        let port = port.map(|port| port.parse().ok().filter(|port| *port > 0).ok_or_else(invalid)).transpose()?;
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(Self { host: address.to_string(), port });
        }
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        };
        let name = host.len() <= 253 && host.split('.').all(label);
        if name || host == "*" { Ok(Self { host: host.to_ascii_lowercase(), port }) } else { Err(invalid()) }
    }
}

/// The host, without brackets, and what stands for the port.
fn split(text: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        return match rest {
            "" => Some((host, None)),
            _ => Some((host, Some(rest.strip_prefix(':')?))),
        };
    }
    match text.split_once(':') {
        // More than one colon: an IPv6 address without a port.
        Some((_, rest)) if rest.contains(':') => Some((text, None)),
        Some((host, port)) => Some((host, Some(port))),
        None => Some((text, None)),
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.port, self.host.contains(':')) {
            (None, _) => f.write_str(&self.host),
            (Some(port), true) => write!(f, "[{}]:{port}", self.host),
            (Some(port), false) => write!(f, "{}:{port}", self.host),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_read() {
        let cases = [
            ("api.example.com", Some(("api.example.com", None))),
            ("API.example.com:8443", Some(("api.example.com", Some(8443)))),
            ("10.0.0.5:80", Some(("10.0.0.5", Some(80)))),
            ("::1", Some(("::1", None))),
            ("[::1]:80", Some(("::1", Some(80)))),
            ("[::1]", Some(("::1", None))),
            ("*:443", Some(("*", Some(443)))),
            ("", None),
            ("a b", None),
            ("https://a.b", None),
            ("a.b/c", None),
            ("a..b", None),
            ("*.b", None),
            ("a:0", None),
            ("a:65536", None),
            ("[::1", None),
            ("[::1]80", None),
        ];
        for (text, expected) in cases {
            let origin = text.parse::<Origin>().ok();
            assert_eq!(origin.as_ref().map(|origin| (origin.host.as_str(), origin.port)), expected, "{text}");
        }
    }

    #[test]
    fn a_star_is_for_names_alone() {
        let origin = |text: &str| text.parse::<Origin>().expect("an origin");
        assert!(origin("*").matches("a.b", 1) && !origin("*").matches("10.0.0.1", 1) && !origin("*").matches("::1", 1));
        assert!(origin("*:443").matches("a.b", 443) && !origin("*:443").matches("a.b", 80));
        assert!(origin("a.b").matches("A.B", 80) && !origin("a.b").matches("c.a.b", 80));
        let grants = Grants { http: vec![origin("a.b:80"), origin("10.0.0.1")], wall_clock: true, ..Grants::default() };
        let max = GrantsMax { http: vec![origin("*")], wall_clock: false, ..GrantsMax::default() };
        assert_eq!(grants.beyond(&max), ["wall_clock", "http to 10.0.0.1"]);
        let max = GrantsMax { http: vec![origin("a.b:81"), origin("10.0.0.1:1")], ..GrantsMax::default() };
        assert_eq!(grants.beyond(&max), ["http to a.b:80", "http to 10.0.0.1"]);
    }
}
