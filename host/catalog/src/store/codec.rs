//! Bytes ⇄ what is persisted: JSON with a version, which is looked at before anything else. What is not understood whole is refused.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::records::SCHEMA;
use crate::Digest;

/// The state of a log after a record, so that those before it need not be read.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Checkpoint<S> {
    pub(super) v: u32,
    /// Of the last record in it.
    pub(super) revision: u64,
    /// Of the state's own JSON.
    sha256: Digest,
    pub(super) state: S,
}

/// What every persisted form states first.
#[derive(Deserialize)]
struct Versioned {
    v: u64,
}

/// The bytes of a persisted form: what is equal is written alike.
pub(super) fn encode(value: &impl Serialize) -> Bytes {
    let mut json = serde_json::to_vec(value).expect("invariant: the forms have string keys and finite numbers");
    json.push(b'\n');
    json.into()
}

/// Reads a persisted form; `object` is its name for messages.
pub(super) fn decode<T: DeserializeOwned>(object: impl FnOnce() -> String, bytes: &[u8]) -> Result<T, StoreError> {
    match serde_json::from_slice::<Versioned>(bytes) {
        Ok(Versioned { v }) if v > u64::from(SCHEMA) => {
            return Err(StoreError::Newer { object: object(), found: v, known: SCHEMA });
        }
        Ok(Versioned { v }) if v < u64::from(SCHEMA) => return Err(corrupt(object(), format!("there is no schema {v}"))),
        _ => {}
    }
    serde_json::from_slice(bytes).map_err(|error| corrupt(object(), error.to_string()))
}

pub(super) fn corrupt(object: String, what: impl Into<String>) -> StoreError {
    StoreError::Corrupt { object, what: what.into() }
}

pub(super) fn encode_checkpoint<S: Serialize>(revision: u64, state: &S) -> Bytes {
    let sha256 = digest(state);
    encode(&Checkpoint { v: SCHEMA, revision, sha256, state })
}

pub(super) fn decode_checkpoint<S>(object: impl Fn() -> String, bytes: &[u8]) -> Result<Checkpoint<S>, StoreError>
where
    S: Serialize + DeserializeOwned,
{
    let checkpoint: Checkpoint<S> = decode(&object, bytes)?;
    match digest(&checkpoint.state) {
        found if found == checkpoint.sha256 => Ok(checkpoint),
        found => Err(corrupt(object(), format!("its state has the SHA-256 {found}, not {}", checkpoint.sha256))),
    }
}

fn digest(state: &impl Serialize) -> Digest {
    Digest::of(&encode(state))
}
