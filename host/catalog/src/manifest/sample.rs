//! The requests of a function: `methods`, and `[sample]`. Sends none.

use http::{HeaderValue, Method};
use serde::Deserialize;

use super::FilePath;

/// The methods that a function can answer.
const METHODS: [Method; 6] = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// `[sample]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SampleTable {
    pub(crate) method: Option<MethodName>,
    #[serde(default)]
    pub(crate) path: RequestPath,
    pub(crate) content_type: Option<MediaType>,
    pub(crate) body: Option<FilePath>,
}

/// One of [`METHODS`].
#[derive(Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct MethodName(pub(crate) Method);

impl TryFrom<String> for MethodName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let method = METHODS.into_iter().find(|method| method.as_str() == text);
        method.map(Self).ok_or_else(|| format!("expected one of {METHODS:?}, found {text:?}"))
    }
}

/// At least one method, none twice; `POST` by default.
#[derive(Deserialize)]
#[serde(try_from = "Vec<MethodName>")]
pub(crate) struct Methods(pub(crate) Vec<Method>);

impl Default for Methods {
    fn default() -> Self {
        Self(vec![Method::POST])
    }
}

impl TryFrom<Vec<MethodName>> for Methods {
    type Error = String;

    fn try_from(names: Vec<MethodName>) -> Result<Self, String> {
        let methods: Vec<_> = names.into_iter().map(|name| name.0).collect();
        let twice = methods.iter().enumerate().find(|(at, method)| methods[..*at].contains(method));
        match twice {
            Some((_, method)) => Err(format!("{method} is given twice")),
            None if methods.is_empty() => Err("expected at least one method".into()),
            None => Ok(Self(methods)),
        }
    }
}

/// What follows the function's name in the path, and the query.
#[derive(Default, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct RequestPath {
    pub(crate) rest: String,
    pub(crate) query: Option<String>,
}

impl TryFrom<String> for RequestPath {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let plain = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        if !plain || !(text.is_empty() || text.starts_with(['/', '?'])) {
            return Err(format!("expected what follows the function's name, such as \"/part?key=value\", found {text:?}"));
        }
        Ok(match text.split_once('?') {
            Some((rest, query)) => Self { rest: rest.into(), query: Some(query.into()) },
            None => Self { rest: text, query: None },
        })
    }
}

/// The value of a `content-type` header.
#[derive(Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct MediaType(pub(crate) HeaderValue);

impl TryFrom<String> for MediaType {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        HeaderValue::try_from(&text).map(Self).map_err(|_| format!("expected a media type, found {text:?}"))
    }
}
