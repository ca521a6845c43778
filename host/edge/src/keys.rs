//! Who asks: the secret in a request's head, and whose it is. Known before a byte of the body is read; no other file sees a
//! secret, and none is repeated in a message.

use std::net::IpAddr;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use sandmill_domain::ports::Keys;
use sandmill_domain::{Caller, Code, Fault};

/// The longest secret that is looked up, in bytes: a longer one is nobody's, and costs no hash.
const SECRET_BYTES_MAX: usize = 512;

/// Whoever shows the secret in `headers`, having come from that address.
///
/// # Errors
/// `Unauthorized`.
pub(crate) fn caller(keys: &dyn Keys, headers: &HeaderMap, from: Option<IpAddr>) -> Result<Caller, Fault> {
    let secret = if keys.exist() { secret(headers)? } else { None };
    keys.holder(secret).map(|caller| Caller { from, ..caller })
}

/// RFC 6750, section 2.1. None without the header.
fn secret(headers: &HeaderMap) -> Result<Option<&str>, Fault> {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = given.next() else { return Ok(None) };
    if given.next().is_some() {
        return Err(unauthorized("there is more than one `Authorization` header"));
    }
    let bearer = value.to_str().ok().and_then(|value| value.split_once(' ')).map(|(scheme, secret)| (scheme, secret.trim()));
    match bearer {
        Some((scheme, secret)) if scheme.eq_ignore_ascii_case("bearer") && is_token(secret) => Ok(Some(secret)),
        _ => Err(unauthorized("the `Authorization` header does not have the form `Bearer <key>`")),
    }
}

/// What RFC 6750 calls `b64token`.
fn is_token(secret: &str) -> bool {
    let padding = secret.trim_end_matches('=');
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    !padding.is_empty() && secret.len() <= SECRET_BYTES_MAX && padding.bytes().all(allowed)
}

fn unauthorized(message: &str) -> Fault {
    Fault::new(Code::Unauthorized, message)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(values: &[&[u8]]) -> Result<Option<String>, Code> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_bytes(value).expect("a header"));
        }
        secret(&headers).map(|secret| secret.map(str::to_owned)).map_err(|fault| fault.code)
    }

    #[test]
    fn a_secret_comes_one_way() {
        assert_eq!(read(&[]), Ok(None));
        let longest = format!("Bearer {}", "a".repeat(SECRET_BYTES_MAX));
        for good in ["Bearer s", "bearer s", "BEARER  s ", "Bearer a-b._~+/c==", longest.as_str()] {
            assert!(matches!(read(&[good.as_bytes()]), Ok(Some(_))), "{good}");
        }
        assert_eq!(read(&[b"Bearer  s3cret "]), Ok(Some("s3cret".to_owned())));
        let too_long = format!("{longest}a");
        for bad in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer ==",
            "Bearers s",
            "Basic czpz",
            "s",
            "Bearer a b",
            "Bearer a,Bearer b",
            "Bearer \"s\"",
            "Bearer\ts",
            "Bearer s\tt",
            "Bearer a=b",
            "Bearer s\u{e9}",
            too_long.as_str(),
        ] {
            assert_eq!(read(&[bad.as_bytes()]), Err(Code::Unauthorized), "{bad}");
        }
        assert_eq!(read(&[b"Bearer \xff"]), Err(Code::Unauthorized));
        assert_eq!(read(&[b"Bearer s", b"Bearer s"]), Err(Code::Unauthorized));
    }
}
