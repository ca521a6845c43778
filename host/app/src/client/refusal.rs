//! What a server refused, told as: what, where, what to do.

use std::fmt;

use bytes::Bytes;
use hyper::StatusCode;
use serde::Deserialize;
use thiserror::Error;

/// How much is shown of an answer that is no problem of ours.
const EXCERPT_CHARS_MAX: usize = 500;

/// An answer that is no success.
#[derive(Debug, Error)]
pub(crate) struct Refusal {
    status: StatusCode,
    /// As it came.
    pub(crate) body: Bytes,
    problem: Problem,
    /// What this client knows besides.
    advice: Option<&'static str>,
}

/// RFC 9457; of functions, `error`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Problem {
    detail: Option<String>,
    code: Option<String>,
    step: Option<String>,
    revision: Option<u64>,
    error: Option<String>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, body: Bytes) -> Self {
        let problem = serde_json::from_slice(&body).unwrap_or_default();
        Self { status, body, problem, advice: None }
    }

    /// The same, with what to do about what is wrong with the request itself.
    pub(crate) fn if_invalid(self, advice: &'static str) -> Self {
        let advice = Some(advice).filter(|_| self.status == StatusCode::BAD_REQUEST);
        Self { advice, ..self }
    }

    /// Whether the fault is the caller's.
    pub(crate) fn is_ours(&self) -> bool {
        self.status.is_client_error()
    }

    /// Whether what was asked about is not there.
    pub(crate) fn is_missing(&self) -> bool {
        self.status == StatusCode::NOT_FOUND
    }

    fn what(&self) -> String {
        let Problem { detail, error, .. } = &self.problem;
        let known = detail.as_ref().or(error.as_ref()).filter(|text| !text.is_empty()).cloned();
        known.unwrap_or_else(|| {
            let text = String::from_utf8_lossy(&self.body);
            let text = text.trim();
            if text.is_empty() { "it says no more".to_owned() } else { text.chars().take(EXCERPT_CHARS_MAX).collect() }
        })
    }

    fn what_to_do(&self) -> Option<&'static str> {
        match self.problem.code.as_deref()? {
            "unauthorized" => Some("give a key of this server: `sandmill profile set`, SANDMILL_KEY or --key-file"),
            "forbidden" => Some("`sandmill whoami` says what the key allows; whoever has an admin key can make another"),
            "conflict" if self.problem.revision.is_some() => {
                Some("somebody was quicker: look at it, and do it again if you still want to")
            }
            "conflict" => None,
            "unprocessable" => {
                Some("nothing was changed: mend it, and send it again (`sandmill check` tries a function's folder here)")
            }
            "too_large" => Some("nothing was changed; the server's operator sets the bound"),
            "not_ready" | "overloaded" => Some("try it again in a moment"),
            "internal" | "storage_full" => Some("the server's log says more"),
            _ => None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        if let Some(step) = &self.problem.step {
            write!(f, " at the step `{step}`")?;
        }
        write!(f, ": {}", self.what())?;
        if let Some(advice) = self.advice.or_else(|| self.what_to_do()) {
            write!(f, "\n  {advice}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_where_and_what_to_do() {
        let told = |status: u16, body: &'static str| {
            Refusal::new(StatusCode::from_u16(status).expect("a status"), Bytes::from_static(body.as_bytes())).to_string()
        };
        assert_eq!(
            told(422, r#"{"detail":"plugin.wasm: no component","code":"unprocessable","step":"load","status":422}"#),
            "422 Unprocessable Entity at the step `load`: plugin.wasm: no component\n  nothing was changed: mend it, and send \
             it again (`sandmill check` tries a function's folder here)"
        );
        let conflict = told(409, r#"{"detail":"it has changed","code":"conflict","revision":7}"#);
        assert!(conflict.contains("somebody was quicker"), "{conflict}");
        assert_eq!(told(404, r#"{"error":"no function `x`"}"#), "404 Not Found: no function `x`");
        assert_eq!(told(502, "<html>proxy</html>"), "502 Bad Gateway: <html>proxy</html>");
        assert_eq!(told(500, ""), "500 Internal Server Error: it says no more");
    }
}
