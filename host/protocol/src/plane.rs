//! What the control plane is asked and tells, as JSON: the small bodies that come in, checked, and answers and problems going
//! out. Knows no routes, and no codes for faults.

use bytes::Bytes;
use http::StatusCode;
use sandmill_domain::control::{Answer, NewKey, Refused, Step, TenantTerms};
use sandmill_domain::{Code, Fault, ReleaseNumber};
use serde::{Deserialize, Serialize};

use crate::metadata::text;
use crate::object::object;

/// What people call a key, in bytes.
const LABEL_BYTES_MAX: usize = 200;

/// A key's life, in seconds: a hundred years.
const EXPIRY_SECONDS_MAX: u64 = 100 * 366 * 24 * 60 * 60;

/// RFC 9457.
#[derive(Serialize)]
struct Problem<'a> {
    r#type: String,
    title: String,
    status: u16,
    detail: &'a str,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<Step>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RollBack {
    #[serde(default)]
    to: Option<ReleaseNumber>,
}

/// An answer's body, `application/json`.
pub fn answer_body(answer: &Answer) -> Bytes {
    text(answer)
}

/// The body of every error of the control plane, `application/problem+json`. What only the log is told is not in it.
pub fn problem_body(refused: &Refused, status: StatusCode) -> Bytes {
    let code = refused.fault.code.name();
    text(&Problem {
        r#type: format!("tag:sandmill,2026:problem:{code}"),
        title: code.replace('_', " "),
        status: status.as_u16(),
        detail: &refused.fault.message,
        code,
        step: refused.step,
        revision: refused.revision,
    })
}

/// The key that a body wants: `{"scopes": ["invoke"], "label": "…", "expires_in_seconds": 3600}`, the last two if need be.
///
/// # Errors
/// `InvalidInput`.
pub fn new_key(body: &[u8]) -> Result<NewKey, Fault> {
    let key: NewKey = object(body, &[])?;
    let is_twice = |(at, scope)| key.scopes[..at].contains(scope);
    let wrong = if key.scopes.is_empty() {
        "`scopes` names at least one of `invoke`, `deploy` and `admin`".to_owned()
    } else if key.scopes.iter().enumerate().any(is_twice) {
        "`scopes` names one twice".to_owned()
    } else if key.label.len() > LABEL_BYTES_MAX || key.label.chars().any(char::is_control) {
        format!("`label` has at most {LABEL_BYTES_MAX} bytes, and no control characters")
    } else if key.expires_in_seconds.is_some_and(|seconds| !(1..=EXPIRY_SECONDS_MAX).contains(&seconds)) {
        format!("`expires_in_seconds` is from 1 to {EXPIRY_SECONDS_MAX}")
    } else {
        return Ok(key);
    };
    Err(Fault::new(Code::InvalidInput, wrong))
}

/// What a tenant is to have: `{"weight": 1, "quotas": {…}}`, all of it if need be.
///
/// # Errors
/// `InvalidInput`.
pub fn tenant_terms(body: &[u8]) -> Result<TenantTerms, Fault> {
    let terms: TenantTerms = object(body, &["quotas"])?;
    if terms.weight == 0 {
        return Err(Fault::new(Code::InvalidInput, "`weight` is at least 1"));
    }
    Ok(terms)
}

/// The release that is to answer again: `{"to": 3}`, or `{}` for the one that did last.
///
/// # Errors
/// `InvalidInput`.
pub fn roll_back(body: &[u8]) -> Result<Option<ReleaseNumber>, Fault> {
    object::<RollBack>(body, &[]).map(|roll_back| roll_back.to)
}

#[cfg(test)]
mod tests {
    use sandmill_domain::Scope;
    use sandmill_domain::control::Quotas;

    use super::*;

    #[test]
    fn bodies_are_read_as_they_are_meant() {
        let key = new_key(br#"{"scopes":["invoke","deploy"],"expires_in_seconds":60}"#).unwrap();
        assert_eq!(
            key,
            NewKey { scopes: vec![Scope::Invoke, Scope::Deploy], label: String::new(), expires_in_seconds: Some(60) }
        );
        let quotas = Quotas { functions_max: Some(3), ..Quotas::default() };
        assert_eq!(tenant_terms(br#"{"quotas":{"functions_max":3}}"#).unwrap(), TenantTerms { weight: 1, quotas });
        assert_eq!(tenant_terms(b" {} ").unwrap(), TenantTerms::default());
        assert_eq!(roll_back(b"{}").unwrap(), None);
        assert_eq!(roll_back(br#"{"to":3}"#).unwrap().map(|number| number.to_string()).as_deref(), Some("3"));
    }

    #[test]
    fn all_else_is_refused_by_name() {
        let deep = format!(r#"{{"scopes":{}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
        let long = format!(r#"{{"scopes":["invoke"],"label":"{}"}}"#, "x".repeat(201));
        let keys = [
            ("", "EOF"),
            ("null", "null"),
            ("[]", "invalid length 0"),
            (r#"[["invoke"],"label",1]"#, "a list where an object"),
            ("{", "EOF"),
            ("{} x", "missing field `scopes`"),
            (r#"{"scopes":["invoke"]} x"#, "trailing"),
            (r#"{"scopes":[]}"#, "at least one"),
            (r#"{"scopes":["invoke","invoke"]}"#, "twice"),
            (r#"{"scopes":["invoke"],"scopes":["admin"]}"#, "duplicate field `scopes`"),
            (r#"{"scopes":["root"]}"#, "unknown variant `root`"),
            (r#"{"scopes":["invoke"],"secret":"s"}"#, "unknown field `secret`"),
            (r#"{"scopes":["invoke"],"label":null}"#, "null"),
            (r#"{"scopes":["invoke"],"label":"a\nb"}"#, "control characters"),
            (long.as_str(), "`label` has"),
            (r#"{"scopes":["invoke"],"expires_in_seconds":0}"#, "from 1 to"),
            (r#"{"scopes":["invoke"],"expires_in_seconds":-1}"#, "-1"),
            (r#"{"scopes":["invoke"],"expires_in_seconds":18446744073709551615}"#, "from 1 to"),
            ("{\"scopes\":[\"invoke\"],\"label\":\"\u{0}\"}", "control character"),
            (deep.as_str(), "expected value"),
        ];
        for (body, part) in keys {
            let fault = new_key(body.as_bytes()).expect_err(part);
            assert_eq!(fault.code, Code::InvalidInput, "{part}");
            assert!(fault.message.contains(part) && fault.message.len() < 1300, "{part}: {}", fault.message);
        }
        let deep = format!(r#"{{"quotas":{{"functions_max":{}"#, r#"{"a":"#.repeat(10_000));
        let terms = [
            (r#"{"weight":0}"#, "at least 1"),
            (r#"{"weight":4294967296}"#, "4294967296"),
            (r#"{"weight":1.5}"#, "1.5"),
            (r#"{"quotas":[1]}"#, "a list where an object"),
            (r#"{"quotas":{"functions_max":1,"functions_max":2}}"#, "duplicate field"),
            (r#"{"quotas":{"disks_max":1}}"#, "unknown field `disks_max`"),
            (deep.as_str(), "invalid type: map"),
        ];
        for (body, part) in terms {
            let fault = tenant_terms(body.as_bytes()).expect_err(part);
            assert!(fault.message.contains(part), "{part}: {}", fault.message);
        }
        for body in [r#"{"to":0}"#, r#"{"to":"3"}"#, r#"{"to":-1}"#, r#"{"to":1e0}"#, "[3]", r#"{"to":3,"to":4}"#, "3"] {
            assert!(roll_back(body.as_bytes()).is_err(), "{body}");
        }
        assert!(new_key(b"\xff\xfe").is_err());
        assert!(new_key(&[b'['; 16 << 10]).is_err());
    }

    #[test]
    fn a_problem_says_what_was_wrong_and_nothing_that_is_for_the_log() {
        let fault = Fault::new(Code::Conflict, "it is newer").because("a secret");
        let refused = Refused { fault, step: Some(Step::Publish), revision: Some(7) };
        let expected = concat!(
            r#"{"type":"tag:sandmill,2026:problem:conflict","title":"conflict","status":409,"detail":"it is newer","#,
            r#""code":"conflict","step":"publish","revision":7}"#
        );
        assert_eq!(str::from_utf8(&problem_body(&refused, StatusCode::CONFLICT)).unwrap(), expected);
        let plain = Fault::new(Code::NotFound, "nothing").into();
        let expected = r#"{"type":"tag:sandmill,2026:problem:not_found","title":"not found","status":404,"detail":"nothing","code":"not_found"}"#;
        assert_eq!(str::from_utf8(&problem_body(&plain, StatusCode::NOT_FOUND)).unwrap(), expected);
    }
}
