//! What a caller asks for itself, in headers or in an inference request's `parameters`: how soon, and before whom. What comes of it
//! is not decided here.

use std::time::Duration;

use http::{HeaderMap, HeaderName};
use sandmill_domain::{Fault, Priority, Wish};

use crate::refusal::{Refusal, excerpt, invalid};

/// The request's priority: `high`, `normal` or `low`. Not RFC 9218's `priority`, which browsers send with every request, about
/// something else.
pub const PRIORITY: HeaderName = HeaderName::from_static("sandmill-priority");

/// How many milliseconds the caller waits for the answer.
pub const TIMEOUT_MS: HeaderName = HeaderName::from_static("sandmill-timeout-ms");

/// What a request's headers ask for.
///
/// # Errors
/// `InvalidInput`, with what is allowed.
pub fn wish(headers: &HeaderMap) -> Result<Wish, Fault> {
    read(headers).map_err(Fault::from)
}

fn read(headers: &HeaderMap) -> Result<Wish, Refusal> {
    let priority = only(headers, &PRIORITY)?.map(|text| {
        let named = Priority::ALL.into_iter().find(|priority| priority.as_str().as_bytes() == text);
        named.ok_or_else(|| refused(&PRIORITY, "`high`, `normal` or `low`", text))
    });
    let timeout = only(headers, &TIMEOUT_MS)?.map(|text| {
        let millis = str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let millis = millis.and_then(|text| text.parse().ok()).filter(|millis| *millis > 0);
        millis.map(Duration::from_millis).ok_or_else(|| refused(&TIMEOUT_MS, "a whole number of milliseconds from 1", text))
    });
    Ok(Wish { priority: priority.transpose()?, timeout: timeout.transpose()? })
}

/// A header's only value: of two, a proxy and this host might each obey another.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a [u8]>, Refusal> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => Ok(Some(value.as_bytes())),
        (Some(_), Some(_)) => Err(invalid(format!("header {name} is given more than once"))),
    }
}

fn refused(name: &HeaderName, allowed: &str, given: &[u8]) -> Refusal {
    let given = String::from_utf8_lossy(&given[..given.len().min(40)]).into_owned();
    invalid(format!("header {name} must be {allowed}, not `{}`", excerpt(&given)))
}

/// The parameter `priority`, as Triton's clients send it: 1 is the highest, and 0 says nothing.
pub(crate) fn priority(level: Option<u64>) -> Result<Option<Priority>, Refusal> {
    match level {
        Some(0) => Ok(None),
        Some(1) => Ok(Some(Priority::High)),
        Some(2) => Ok(Some(Priority::Normal)),
        Some(3) => Ok(Some(Priority::Low)),
        Some(_) | None => Err(invalid("parameter `priority` must be 1 for high, 2 for normal, 3 for low, or 0 for the default")),
    }
}

/// The parameter `timeout`, likewise: in microseconds, and 0 says nothing.
pub(crate) fn timeout(micros: Option<u64>) -> Result<Option<Duration>, Refusal> {
    let micros = micros.ok_or_else(|| invalid("parameter `timeout` must be a whole number of microseconds, or 0 for none"))?;
    Ok((micros > 0).then(|| Duration::from_micros(micros)))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn of(headers: &[(HeaderName, &[u8])]) -> Result<Wish, String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, HeaderValue::from_bytes(value).expect("a value"));
        }
        wish(&map).map_err(|fault| fault.message)
    }

    #[test]
    fn headers_say_how_soon_and_before_whom() {
        assert_eq!(of(&[]), Ok(Wish::default()));
        for priority in Priority::ALL {
            let asked = Wish { priority: Some(priority), timeout: Some(Duration::from_millis(250)) };
            assert_eq!(of(&[(PRIORITY, priority.as_str().as_bytes()), (TIMEOUT_MS, b"250")]), Ok(asked));
        }
        let long = of(&[(TIMEOUT_MS, b"18446744073709551615")]).expect("as long as can be said");
        assert_eq!(long.timeout, Some(Duration::from_millis(u64::MAX)));
    }

    #[test]
    fn other_values_are_refused_with_what_is_allowed() {
        for bad in ["", "High", "1", "urgent", "high, low"] {
            let expected = format!("header sandmill-priority must be `high`, `normal` or `low`, not `{bad}`");
            assert_eq!(of(&[(PRIORITY, bad.as_bytes())]), Err(expected));
        }
        for bad in ["", "0", "-1", "+1", "1.5", "1e3", "0x10", "100ms", "18446744073709551616"] {
            let expected = format!("header sandmill-timeout-ms must be a whole number of milliseconds from 1, not `{bad}`");
            assert_eq!(of(&[(TIMEOUT_MS, bad.as_bytes())]), Err(expected));
        }
        assert!(of(&[(TIMEOUT_MS, b"\xff")]).is_err());
        let long = of(&[(PRIORITY, "h".repeat(10_000).as_bytes())]).expect_err("no priority");
        assert!(long.len() < 200, "{long}");
        for name in [PRIORITY, TIMEOUT_MS] {
            let expected = format!("header {name} is given more than once");
            assert_eq!(of(&[(name.clone(), b"5"), (name, b"5")]), Err(expected));
        }
    }
}
