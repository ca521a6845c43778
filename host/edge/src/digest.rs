//! What a client says that its body's digest is, and whether it is: RFC 9530, with SHA-256. Knows no bodies.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::{HeaderMap, HeaderName};
use sandmill_domain::{Code, Fault};
use sha2::{Digest, Sha256};

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");
const SHA_256: &str = "sha-256";

/// RFC 9651, section 4.2.7: what lacks its padding is read as well.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));

/// A digest that was promised, and what has come so far.
#[derive(Debug)]
pub(crate) struct Promise {
    digest: [u8; 32],
    so_far: Sha256,
}

impl Promise {
    /// What the headers promise; none if they do not.
    ///
    /// # Errors
    /// `InvalidInput` for what cannot be read, and for digests none of which is made with SHA-256.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Option<Self>, Fault> {
        let mut digest = None;
        let mut is_promised = false;
        for value in headers.get_all(CONTENT_DIGEST) {
            // A digest has no comma in it, and no value but digests is allowed here.
            for member in value.to_str().map_err(|_not_text| unreadable())?.split(',') {
                is_promised = true;
                let (algorithm, bytes) = member_of(member).ok_or_else(unreadable)?;
                if algorithm == SHA_256 {
                    // Of two of one name the last counts: RFC 9651, section 4.2.2.
                    digest = Some(<[u8; 32]>::try_from(bytes).map_err(|_length| unreadable())?);
                }
            }
        }
        match digest {
            Some(digest) => Ok(Some(Self { digest, so_far: Sha256::new() })),
            None if is_promised => Err(invalid("`Content-Digest` names no algorithm that is known here: that is `sha-256`")),
            None => Ok(None),
        }
    }

    /// More of the body.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.so_far.update(bytes);
    }

    /// Whether the body, now whole, is what was promised.
    ///
    /// # Errors
    /// `InvalidInput` if not.
    pub(crate) fn keep(self) -> Result<(), Fault> {
        if self.so_far.finalize()[..] == self.digest {
            return Ok(());
        }
        Err(invalid("the body has another SHA-256 than `Content-Digest` says: it was damaged on its way"))
    }
}

/// `key=:base64:` of a dictionary, with what it is an attribute of; attributes of its own, which none has, are passed over.
fn member_of(member: &str) -> Option<(&str, Vec<u8>)> {
    let (key, value) = member.trim_matches([' ', '\t']).split_once('=')?;
    let value = value.split_once(';').map_or(value, |(value, _attributes)| value);
    let bytes = BASE64.decode(value.strip_prefix(':')?.strip_suffix(':')?).ok()?;
    let is_key = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.*".contains(&byte);
    (!key.is_empty() && key.bytes().all(is_key)).then_some((key, bytes))
}

fn unreadable() -> Fault {
    invalid("`Content-Digest` cannot be read: it has the form `sha-256=:…:`, with the 32 bytes of the digest in base64")
}

fn invalid(message: &str) -> Fault {
    Fault::new(Code::InvalidInput, message)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    /// Of `hello`, by another tool.
    const HELLO: &str = "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=";

    fn promise(values: &[&str]) -> Result<Option<Promise>, Fault> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(CONTENT_DIGEST, HeaderValue::from_bytes(value.as_bytes()).expect("a header"));
        }
        Promise::of(&headers)
    }

    #[test]
    fn a_promise_is_kept_or_broken() {
        let other = "sha-512=:YWJj:";
        let bare = HELLO.trim_end_matches('=');
        for values in [
            vec![format!("sha-256=:{HELLO}:")],
            vec![format!("sha-256=:{bare}:")],
            vec![format!("  {other} ,\tsha-256=:{HELLO}:;x=1 ")],
            vec![other.to_owned(), format!("sha-256=:{HELLO}:")],
            vec![format!("sha-256=:{}:, sha-256=:{HELLO}:", "A".repeat(43))],
        ] {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            for (body, kept) in [(&[&b"hel"[..], b"lo"][..], true), (&[b"hello!"], false), (&[], false)] {
                let mut promise = promise(&values).expect("readable").expect("a promise");
                body.iter().for_each(|part| promise.update(part));
                assert_eq!(promise.keep().is_ok(), kept, "{values:?} {body:?}");
            }
        }
        assert!(promise(&[]).expect("nothing").is_none());
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for value in [
            "",
            "sha-256",
            "sha-256=",
            "sha-256=:",
            "sha-256=::",
            "sha-256=:YWJj:",
            "sha-256=YWJj",
            "sha-256=:####:",
            "=:YWJj:",
            "SHA-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:",
            "sha-256=:LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:",
            "sha-512=:YWJj:",
            "md5=:YWJj:,",
            ",",
            "sha-256=:YWJj:\u{e9}",
        ] {
            assert_eq!(promise(&[value]).map(|_| ()).map_err(|fault| fault.code), Err(Code::InvalidInput), "{value}");
        }
    }
}
