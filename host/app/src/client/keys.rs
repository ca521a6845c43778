//! `sandmill keys`.

use anyhow::{Result, bail};
use hyper::Method;
use sandmill_domain::control::{KeyDetail, NewKey};
use serde::Deserialize;

use super::ask::{Plane, block_on};
use super::functions::scopes;
use super::words::{moment, table};
use crate::cli::{KeyArguments, KeysCommand, KeysOptions, OwnerOptions};

#[derive(Deserialize)]
struct Keys {
    keys: Vec<KeyDetail>,
}

#[derive(Deserialize)]
struct Added {
    #[serde(flatten)]
    key: KeyDetail,
    secret: String,
}

/// `sandmill keys`
pub(crate) fn run(options: &KeysOptions, json: bool) -> Result<()> {
    match &options.command {
        KeysCommand::List { owner } => list(owner, json),
        KeysCommand::Add(arguments) => add(arguments, json),
        KeysCommand::Revoke { id, owner } => revoke(id, owner, json),
    }
}

fn list(owner: &OwnerOptions, json: bool) -> Result<()> {
    let plane = Plane::open_for(owner, json)?;
    let told = block_on(plane.get(&plane.path("keys")))?;
    plane.show(&told, |list: Keys| {
        let row = |key: &KeyDetail| {
            let expires = key.expires_at_ms.map_or_else(|| "never".to_owned(), moment);
            [key.key.clone(), scopes(&key.scopes), expires, key.label.clone()]
        };
        if list.keys.is_empty() {
            return format!("no keys{}", whose(&plane));
        }
        table(["key", "scopes", "expires", "label"], &list.keys.iter().map(row).collect::<Vec<_>>())
    })
}

fn add(arguments: &KeyArguments, json: bool) -> Result<()> {
    let plane = Plane::open_for(&arguments.owner, json)?;
    let mut scopes = arguments.scopes.clone();
    scopes.sort_unstable();
    scopes.dedup();
    let wanted = NewKey { scopes, label: arguments.label.clone(), expires_in_seconds: arguments.expires_in };
    let told = block_on(plane.tell(Method::POST, &plane.path("keys"), None, &wanted))?;
    plane.show(&told, |added: Added| {
        let Added { key, secret } = added;
        let until = key.expires_at_ms.map(|end| format!(", until {}", moment(end))).unwrap_or_default();
        let what = self::scopes(&key.scopes);
        format!("key {}{}: {what}{until}\n{secret}\nit is shown this once", key.key, whose(&plane))
    })
}

fn revoke(id: &str, owner: &OwnerOptions, json: bool) -> Result<()> {
    check_id(id)?;
    let plane = Plane::open_for(owner, json)?;
    block_on(plane.ask(Method::DELETE, &plane.path(&format!("keys/{id}"))))?;
    plane.show_done(&format!("key {id} is revoked"));
    Ok(())
}

fn whose(plane: &Plane) -> String {
    plane.access.tenant.as_ref().map(|tenant| format!(" of tenant `{tenant}`")).unwrap_or_default()
}

/// A secret that somebody takes for an id must not get into a path, which logs show.
fn check_id(id: &str) -> Result<()> {
    let is_plain = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.~_".contains(&byte));
    if id.starts_with("sm_") {
        bail!("that is a whole key; its id is what stands between its two `_`");
    }
    if !is_plain {
        bail!("a key's id has letters, digits and -._~ in it: `sandmill keys list` shows them");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_no_id() {
        assert!(check_id("0123abcdef").is_ok());
        for text in ["", "a/b", "a?b", "sm_0123abcdef_00"] {
            let error = check_id(text).expect_err(text).to_string();
            assert!(!error.contains("0123"), "{error}");
        }
    }
}
