//! The protocol's extension for model repositories: the small bodies that come in, checked, and the index going out. Knows no routes.

use std::collections::BTreeMap;

use http::StatusCode;
use sandmill_domain::ports::RepositoryEntry;
use sandmill_domain::{Code, Fault, ModelStage, Reply};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use crate::metadata::json;
use crate::object::object;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    /// Those alone that are.
    #[serde(default)]
    ready: bool,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Load {
    #[serde(default)]
    parameters: BTreeMap<String, IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Unload {
    #[serde(default, rename = "parameters")]
    _parameters: UnloadParameters,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct UnloadParameters {
    /// Of ensembles, which there are none of: either is the same.
    #[serde(default, rename = "unload_dependents")]
    _unload_dependents: bool,
}

#[derive(Serialize)]
struct Entry<'a> {
    name: &'a str,
    version: String,
    state: &'static str,
    reason: &'a str,
}

/// Whether the index is to have only what is ready: `{"ready": true}`, or nothing.
///
/// # Errors
/// `InvalidInput`.
pub fn repository_index_wish(body: &[u8]) -> Result<bool, Fault> {
    read::<Index>(body, &[]).map(|index| index.ready)
}

/// That a model is to be loaded as it is.
///
/// # Errors
/// `InvalidInput`; `Unsupported` for another configuration or other files, which a release never has.
pub fn repository_load_wish(body: &[u8]) -> Result<(), Fault> {
    let load: Load = read(body, &["parameters"])?;
    match load.parameters.keys().next() {
        None => Ok(()),
        Some(name) if name == "config" || name.starts_with("file:") => {
            let message = "a model is loaded as it was released: another configuration, or other files, are another release";
            Err(Fault::new(Code::Unsupported, message))
        }
        Some(_) => {
            Err(Fault::new(Code::InvalidInput, "`parameters`: one that loading does not know; there are `config` and `file:…`"))
        }
    }
}

/// That a model is to be unloaded.
///
/// # Errors
/// `InvalidInput`.
pub fn repository_unload_wish(body: &[u8]) -> Result<(), Fault> {
    read::<Unload>(body, &["parameters"]).map(drop)
}

fn read<T: DeserializeOwned + Default>(body: &[u8], inner: &[&str]) -> Result<T, Fault> {
    if body.is_empty() { Ok(T::default()) } else { object(body, inner) }
}

/// `POST /v2/repository/index`.
pub fn repository_index(entries: &[RepositoryEntry], only_ready: bool) -> Reply {
    let entries: Vec<_> = entries.iter().map(entry).filter(|entry| !only_ready || entry.state == READY).collect();
    json(StatusCode::OK, &entries)
}

const READY: &str = "READY";

fn entry(entry: &RepositoryEntry) -> Entry<'_> {
    let (state, reason) = match (entry.stage, entry.ailing.as_deref()) {
        (ModelStage::Loading, _) => ("LOADING", ""),
        (ModelStage::Unloaded, _) => ("UNAVAILABLE", "unloaded until its next call"),
        (ModelStage::Warm, Some(ailing)) => ("UNAVAILABLE", ailing),
        (ModelStage::Warm, None) => (READY, ""),
    };
    Entry { name: entry.function.as_str(), version: entry.release.to_string(), state, reason }
}

#[cfg(test)]
mod tests {
    use sandmill_domain::{FunctionName, ReleaseNumber};

    use super::*;

    #[test]
    fn bodies_are_read_strictly() {
        assert!(!repository_index_wish(b"").unwrap() && !repository_index_wish(b"{}").unwrap());
        assert!(repository_index_wish(br#"{"ready":true}"#).unwrap());
        repository_load_wish(br#"{"parameters":{}}"#).unwrap();
        repository_unload_wish(br#"{"parameters":{"unload_dependents":true}}"#).unwrap();
        let code = |wish: Result<(), Fault>| wish.expect_err("it is refused").code;
        for parameters in [r#"{"config":"{}"}"#, r#"{"file:1/../../model.onnx":"AAAA","config":"{}"}"#] {
            let body = format!(r#"{{"parameters":{parameters}}}"#);
            assert_eq!(code(repository_load_wish(body.as_bytes())), Code::Unsupported, "{body}");
        }
        for body in [r#"{"parameters":{"x":1}}"#, r#"{"parameters":[]}"#, r#"{"parameter":{}}"#, "[]", "1", "{", "\u{0}"] {
            assert_eq!(code(repository_load_wish(body.as_bytes())), Code::InvalidInput, "{body}");
        }
        for body in [r#"{"parameters":{"unload_dependents":1}}"#, r#"{"parameters":{"x":true}}"#, "null"] {
            assert_eq!(code(repository_unload_wish(body.as_bytes())), Code::InvalidInput, "{body}");
        }
        assert!(repository_index_wish(br#"{"ready":"yes"}"#).is_err());
    }

    #[test]
    fn the_index_has_the_protocols_states() {
        let entry = |stage, ailing: Option<&str>| RepositoryEntry {
            function: FunctionName::new("digits").unwrap(),
            release: ReleaseNumber::FIRST,
            stage,
            ailing: ailing.map(str::to_owned),
        };
        let entries = [
            entry(ModelStage::Warm, None),
            entry(ModelStage::Warm, Some("its answers have changed")),
            entry(ModelStage::Loading, None),
            entry(ModelStage::Unloaded, None),
        ];
        let ready = r#"{"name":"digits","version":"1","state":"READY","reason":""}"#;
        let other = |state: &str, reason: &str| ready.replace("READY", state).replace(r#":""}"#, &format!(r#":"{reason}"}}"#));
        let all = [
            ready.to_owned(),
            other("UNAVAILABLE", "its answers have changed"),
            other("LOADING", ""),
            other("UNAVAILABLE", "unloaded until its next call"),
        ];
        assert_eq!(repository_index(&entries, false).body, format!("[{}]", all.join(",")));
        assert_eq!(repository_index(&entries, true).body, format!("[{ready}]"));
        assert_eq!(repository_index(&[], false).body, "[]");
    }
}
