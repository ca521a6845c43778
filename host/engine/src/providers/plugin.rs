//! Libraries of providers that the operator has declared: loaded once per process, and never again out of it. Knows nothing of
//! functions.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use ort::environment::Environment;

use super::{Library, ProviderLibrary, ProviderSetupError, RESERVED};
use crate::library::guard;
use crate::lock;

/// `ort` puts them into a buffer of 128 bytes.
const PROVIDER_NAME_BYTES_MAX: usize = 100;

/// What the process has loaded, by the name that the operator has given it: where from, and the runtime's names of its providers.
static LOADED: Mutex<BTreeMap<String, (PathBuf, Vec<String>)>> = Mutex::new(BTreeMap::new());

/// Loads a library, unless the process has it already.
pub(super) fn load(environment: &Environment, name: &str, library: &ProviderLibrary) -> Result<Library, ProviderSetupError> {
    let failed = |reason: String| ProviderSetupError::Library { name: name.to_owned(), path: library.path.clone(), reason };
    if RESERVED.contains(&name) || !is_plain(name) {
        return Err(ProviderSetupError::Name { name: name.to_owned() });
    }
    if !library.path.is_absolute() {
        return Err(failed("its path is not absolute".to_owned()));
    }
    let path = library.path.canonicalize().map_err(|error| failed(error.to_string()))?;
    let mut loaded = lock(&LOADED);
    let providers = match loaded.get(name) {
        Some((other, _)) if *other != path => return Err(failed(format!("the process has {} by that name", other.display()))),
        Some((_, providers)) => providers.clone(),
        None => {
            let providers = register(environment, name, &path).map_err(failed)?;
            loaded.insert(name.to_owned(), (path, providers.clone()));
            providers
        }
    };
    Ok(Library { providers, options: library.options.clone() })
}

/// The names of the providers that were not there before.
fn register(environment: &Environment, name: &str, path: &Path) -> Result<Vec<String>, String> {
    let before = guard(|| names(environment))?;
    guard(|| environment.register_ep_library(name, path))?;
    let new: Vec<_> = guard(|| names(environment))?.difference(&before).cloned().collect();
    match new.iter().find(|name| name.len() > PROVIDER_NAME_BYTES_MAX) {
        Some(name) => Err(format!("it calls a provider `{name}`, which is too long")),
        None if new.is_empty() => Err("it finds no device on this machine".to_owned()),
        None => Ok(new),
    }
}

fn names(environment: &Environment) -> ort::Result<BTreeSet<String>> {
    environment.devices().map(|device| device.ep().map(str::to_owned)).collect()
}

/// What a function can name.
fn is_plain(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    (1..=63).contains(&name.len()) && name.bytes().all(allowed) && !name.starts_with(['-', '_'])
}
