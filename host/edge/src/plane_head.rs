//! What the headers of a request to the control plane say: the state that it rests on, and what its body is.

use http::header::{CONTENT_ENCODING, CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, HeaderName};
use sandmill_domain::control::Form;
use sandmill_domain::{Code, Fault};

/// Folders.
const ARCHIVES: &[&str] = &["application/x-tar", "application/gzip"];

/// What else it may be: the manifest alone.
pub(crate) const DEPLOYMENTS: &[&str] = &["application/x-tar", "application/gzip", "application/toml"];

/// What a plugin is.
pub(crate) const COMPONENTS: &[&str] = &["application/wasm"];

/// What a model may be: an archive, or an ONNX file alone.
pub(crate) const MODELS: &[&str] = &["application/octet-stream", "application/x-tar", "application/gzip"];

/// What everything else is.
pub(crate) const JSON: &[&str] = &["application/json"];

/// The revision of `If-Match: "17"`; none without. A state is not compared with several, nor with whatever is there.
///
/// # Errors
/// `InvalidInput`.
pub(crate) fn revision(headers: &HeaderMap) -> Result<Option<u64>, Fault> {
    let Some(tag) = single(headers, &IF_MATCH)? else { return Ok(None) };
    let digits = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
    let digits = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let revision = digits.and_then(|digits| digits.parse().ok());
    revision.map(Some).ok_or_else(|| invalid("`If-Match` has one revision, as an `ETag` told it: `\"17\"`"))
}

/// Whether something is wanted only if it is not there yet: `If-None-Match: *`.
///
/// # Errors
/// `InvalidInput` for any other value.
pub(crate) fn adds(headers: &HeaderMap) -> Result<bool, Fault> {
    match single(headers, &IF_NONE_MATCH)? {
        None => Ok(false),
        Some("*") => Ok(true),
        Some(_) => Err(invalid("`If-None-Match` is `*` here, for what is to be added")),
    }
}

/// Refuses a condition that is not understood where leaving it out would do harm.
///
/// # Errors
/// `InvalidInput`.
pub(crate) fn no_addition(headers: &HeaderMap) -> Result<(), Fault> {
    if headers.contains_key(IF_NONE_MATCH) {
        return Err(invalid("`If-None-Match` is understood where tenants are put, and not here"));
    }
    Ok(())
}

/// What a body is that may be an archive or a file alone. Whether it is any of them is for [`media`] to say.
pub(crate) fn form(headers: &HeaderMap) -> Form {
    let is_archive = single(headers, &CONTENT_TYPE).ok().flatten().is_some_and(|given| is_one_of(essence(given), ARCHIVES));
    if is_archive { Form::Archive } else { Form::File }
}

/// Whether the body is one of those that are taken.
///
/// # Errors
/// `UnsupportedMedia`, `InvalidInput`.
pub(crate) fn media(headers: &HeaderMap, taken: &[&str]) -> Result<(), Fault> {
    let given = single(headers, &CONTENT_TYPE)?.unwrap_or_default();
    let essence = essence(given);
    if !is_one_of(essence, taken) {
        let message = format!("this takes {}, and `Content-Type` is `{}`", taken.join(" or "), excerpt(essence));
        return Err(Fault::new(Code::UnsupportedMedia, message));
    }
    match single(headers, &CONTENT_ENCODING)? {
        None => Ok(()),
        Some(coding) if coding.eq_ignore_ascii_case("identity") => Ok(()),
        Some(coding) => {
            let message = format!("a `Content-Encoding` is not taken, and this is `{}`: send the body as it is", excerpt(coding));
            Err(Fault::new(Code::UnsupportedMedia, message))
        }
    }
}

fn essence(given: &str) -> &str {
    given.split_once(';').map_or(given, |(essence, _parameters)| essence).trim()
}

fn is_one_of(essence: &str, known: &[&str]) -> bool {
    known.iter().any(|known| essence.eq_ignore_ascii_case(known))
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Fault> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    match (value.to_str(), values.next()) {
        (Ok(value), None) => Ok(Some(value.trim())),
        (Err(_), None) => Err(invalid(format!("the header `{name}` is not ASCII"))),
        (_, Some(_)) => Err(invalid(format!("the header `{name}` is there more than once"))),
    }
}

fn excerpt(text: &str) -> &str {
    // It is ASCII.
    &text[..text.len().min(100)]
}

fn invalid(message: impl Into<String>) -> Fault {
    Fault::new(Code::InvalidInput, message)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(name: &HeaderName, values: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, HeaderValue::from_bytes(value).expect("a header"));
        }
        headers
    }

    #[test]
    fn a_revision_is_one_strong_tag() {
        let read = |values: &[&[u8]]| revision(&headers(&IF_MATCH, values)).map_err(|fault| fault.code);
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&[b"\"17\""]), Ok(Some(17)));
        assert_eq!(read(&[b"\"18446744073709551615\""]), Ok(Some(u64::MAX)));
        let wrong: [&[u8]; 12] = [
            b"",
            b"*",
            b"17",
            b"W/\"17\"",
            b"\"\"",
            b"\"",
            b"\"+1\"",
            b"\"17\", \"18\"",
            b"\"x\"",
            b"\"18446744073709551616\"",
            b"\"17",
            b"\"\xe9\"",
        ];
        for value in wrong {
            assert_eq!(read(&[value]), Err(Code::InvalidInput), "{value:?}");
        }
        assert_eq!(read(&[b"\"17\"", b"\"17\""]), Err(Code::InvalidInput));
    }

    #[test]
    fn only_what_is_taken_is_taken() {
        let check = |value: &[u8]| media(&headers(&CONTENT_TYPE, &[value]), ARCHIVES).map_err(|fault| fault.code);
        for good in [&b"application/x-tar"[..], b"Application/GZIP", b"application/gzip; x=y", b" application/x-tar ;"] {
            assert_eq!(check(good), Ok(()), "{good:?}");
        }
        for bad in [&b""[..], b"application/zip", b"application/x-tar, application/gzip", b"text/plain;application/gzip"] {
            assert_eq!(check(bad), Err(Code::UnsupportedMedia), "{bad:?}");
        }
        assert_eq!(check(b"\xff"), Err(Code::InvalidInput));
        assert!(media(&HeaderMap::new(), JSON).is_err());
        for (value, expected) in [
            ("application/gzip", Form::Archive),
            ("Application/X-Tar; x=y", Form::Archive),
            ("application/toml", Form::File),
            ("application/octet-stream", Form::File),
        ] {
            assert_eq!(form(&headers(&CONTENT_TYPE, &[value.as_bytes()])), expected, "{value}");
        }
        let mut packed = headers(&CONTENT_TYPE, &[b"application/x-tar"]);
        packed.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert_eq!(media(&packed, ARCHIVES).map_err(|fault| fault.code), Err(Code::UnsupportedMedia));
        packed.insert(CONTENT_ENCODING, HeaderValue::from_static("identity"));
        assert!(media(&packed, ARCHIVES).is_ok());
    }
}
