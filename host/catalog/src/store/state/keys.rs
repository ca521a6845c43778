//! Keys of a tenant, or of operators, by their ids. Knows nothing of secrets but their digests.

use std::collections::BTreeMap;

use sandmill_domain::Label;

use super::bounds::{KEYS_MAX, malformed, room, text};
use super::refusal::Refusal;
use crate::store::Key;

pub(super) fn add(keys: &mut BTreeMap<Label, Key>, key: &Key) -> Result<(), Refusal> {
    if keys.contains_key(&key.id) {
        return Err(Refusal::Taken(format!("key `{}`", key.id)));
    }
    if key.scopes.is_empty() {
        return Err(malformed(format!("key `{}`", key.id), "it has a scope"));
    }
    text("a key's label", &key.label)?;
    room("keys", keys.len(), KEYS_MAX)?;
    keys.insert(key.id.clone(), key.clone());
    Ok(())
}

pub(super) fn revoke(keys: &mut BTreeMap<Label, Key>, id: &Label) -> Result<(), Refusal> {
    keys.remove(id).map(drop).ok_or_else(|| Refusal::Unknown(format!("key `{id}`")))
}
