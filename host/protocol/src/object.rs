//! A small body that comes in: one JSON object, read strictly.

use sandmill_domain::{Code, Fault};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// How much is told of what the reader of JSON, which goes 128 levels deep, found wrong: it repeats what it was given.
const MESSAGE_CHARS_MAX: usize = 300;

/// One JSON object, whose fields of those names are objects as well: without a look at that, a list of a structure's values in
/// their order would do. Fields that are unknown or there twice are refused.
pub(crate) fn object<T: DeserializeOwned>(body: &[u8], inner: &[&str]) -> Result<T, Fault> {
    let read = serde_json::from_slice(body).and_then(|object| Ok((object, serde_json::from_slice::<Value>(body)?)));
    let (object, value) = read.map_err(|error| {
        let error: String = error.to_string().chars().take(MESSAGE_CHARS_MAX).collect();
        Fault::new(Code::InvalidInput, format!("the body: {error}"))
    })?;
    let is_object = value.is_object() && inner.iter().all(|name| value.get(name).is_none_or(Value::is_object));
    if is_object { Ok(object) } else { Err(Fault::new(Code::InvalidInput, "the body: a list where an object is expected")) }
}
