//! `sandmill profile`.

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::words::table;
use super::{Entry, Profiles, Secret};
use crate::cli::{ProfileCommand, ProfileOptions, ProfileSetOptions};
use crate::report::told;

/// `sandmill profile`
pub(crate) fn run(options: &ProfileOptions, json: bool) -> Result<()> {
    match &options.command {
        ProfileCommand::Set(options) => set(options, json),
        ProfileCommand::List => list(json),
        ProfileCommand::Remove { name } => {
            let mut profiles = Profiles::read()?;
            if !profiles.remove(name)? {
                bail!("there is no profile `{name}`");
            }
            told(json, &json!({ "profile": name, "removed": true }), || format!("profile `{name}` is gone"));
            Ok(())
        }
    }
}

fn set(options: &ProfileSetOptions, json: bool) -> Result<()> {
    let ProfileSetOptions { name, control, functions, key_file, tenant, ca } = options;
    let mut profiles = Profiles::read()?;
    let known = profiles.get(name).cloned().unwrap_or_default();
    let key = key_file.as_deref().map(Secret::read).transpose()?;
    // A relative path would mean another file from another folder.
    let ca = ca.as_deref().map(std::path::absolute).transpose()?;
    let entry = Entry {
        control: control.clone().or(known.control),
        functions: functions.clone().or(known.functions),
        key: key.or(known.key),
        tenant: tenant.clone().or(known.tenant),
        ca: ca.or(known.ca),
    };
    let shown = shown(name, &entry);
    profiles.set(name, entry)?;
    told(json, &shown, || format!("profile `{name}` is in {}", profiles.path().display()));
    Ok(())
}

fn list(json: bool) -> Result<()> {
    let profiles = Profiles::read()?;
    let all: Vec<_> = profiles.entries().iter().map(|(name, entry)| shown(name, entry)).collect();
    told(json, &json!({ "profiles": all }), || {
        if all.is_empty() {
            return format!("no profiles in {}; `sandmill profile set NAME` makes one", profiles.path().display());
        }
        let cell = |profile: &Value, name: &str| profile[name].as_str().unwrap_or_default().to_owned();
        let row = |profile: &Value| ["profile", "control", "functions", "key", "tenant"].map(|name| cell(profile, name));
        table(["profile", "control", "functions", "key", "tenant"], &all.iter().map(row).collect::<Vec<_>>())
    });
    Ok(())
}

/// Of the key its id alone.
fn shown(name: &str, entry: &Entry) -> Value {
    json!({
        "profile": name,
        "control": entry.control.as_ref().map(ToString::to_string),
        "functions": entry.functions.as_ref().map(ToString::to_string),
        "key": entry.key.as_ref().map(Secret::id),
        "tenant": entry.tenant,
        "ca": entry.ca.as_ref().map(|ca| ca.display().to_string()),
    })
}
