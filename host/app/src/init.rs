//! `sandmill init`: a store with its first operator's key, made without a server.

use std::path::Path;

use anyhow::{Context, Result, bail};
use sandmill_catalog::store::{Author, Catalog, ChangeError, Key, SystemChange};
use sandmill_domain::control::{NewKey, Quotas};
use sandmill_domain::{Scope, TenantId};
use serde_json::json;

use crate::cli::InitOptions;
use crate::client::{Entry, Profiles, Secret};
use crate::control::{make_key, now_ms, open_store};
use crate::report::told;
use crate::store_location;

/// By whom changes are that are made before anybody has a key.
const INIT: &str = "init";

/// `sandmill init`
pub(crate) fn run(options: &InitOptions, json: bool) -> Result<()> {
    let location = store_location::find(options.store.as_deref())?;
    let name = options.profile.as_deref().unwrap_or("default");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let catalog = runtime.block_on(open(&location))?;
    // Before a key is made that could be saved nowhere.
    let profiles = if options.no_profile { None } else { Some(vacant(name)?) };
    let (key, secret) = runtime.block_on(make(&catalog, &location))?;
    let saved = profiles.map(|profiles| save(profiles, name, &secret));
    let (path, failed) = match saved {
        Some(Ok(path)) => (Some(path), None),
        Some(Err(error)) => (None, Some(error)),
        None => (None, None),
    };
    let object = json!({
        "store": location,
        "key": key.id.as_str(),
        "secret": secret.expose(),
        "tenant": TenantId::local(),
        "profile": path.as_ref().map(|_| name),
    });
    told(json, &object, || in_words(&location, &key, &secret, path.as_deref().map(|path| (name, path))));
    // The key is told by then: without that it would be lost.
    failed.map_or(Ok(()), |error| Err(error.context("the key above was made, and could not be saved: keep it yourself")))
}

fn vacant(name: &str) -> Result<Profiles> {
    let profiles = Profiles::read()?;
    if profiles.get(name).is_some_and(|entry| entry.key.is_some()) {
        bail!(
            "the profile `{name}` has a key already: give another name with --profile, or --no-profile to save the new key nowhere"
        );
    }
    Ok(profiles)
}

/// A store without an operator's key.
async fn open(location: &str) -> Result<Catalog> {
    let catalog = Catalog::load(open_store(location).await?).await.context("the store cannot be read")?;
    if !catalog.snapshot().system.state.keys().is_empty() {
        bail!(
            "the store at {location} has an operator's key already: whoever holds one makes others with \
             `sandmill keys add --operators --scope admin`"
        );
    }
    Ok(catalog)
}

/// The operator's key, and a tenant to begin with.
async fn make(catalog: &Catalog, location: &str) -> Result<(Key, Secret)> {
    let author = Author { by: INIT.to_owned(), from: String::new(), at_ms: now_ms() };
    let head = catalog.snapshot();
    let wanted = NewKey { scopes: vec![Scope::Admin], label: "the first operator's".to_owned(), expires_in_seconds: None };
    let (key, secret) = make_key(wanted);
    // Rests on the state in which there is none: of two that begin at once one is told so.
    let change = |_: &_| Ok(SystemChange::KeyAdded(key.clone()));
    let made = catalog.change_system(Some(head.system.revision), &author, change).await;
    match made {
        Ok(_revision) => (),
        Err(ChangeError::Store(sandmill_catalog::store::StoreError::Conflict { .. })) => {
            bail!("somebody else changes the store at {location} just now: try again")
        }
        Err(error) => return Err(error).context("the key could not be made"),
    }
    let local = TenantId::local();
    if catalog.snapshot().system.state.tenants().is_empty() {
        let change = |_: &_| Ok(SystemChange::TenantAdded { tenant: local.clone(), weight: 1, quotas: Quotas::default() });
        catalog.change_system(None, &author, change).await.context("the tenant `default` could not be made")?;
    }
    Ok((key, Secret::new(&secret)?))
}

fn save(mut profiles: Profiles, name: &str, secret: &Secret) -> Result<std::path::PathBuf> {
    let known = profiles.get(name).cloned().unwrap_or_default();
    let tenant = known.tenant.clone().or_else(|| Some(TenantId::local()));
    profiles.set(name, Entry { key: Some(secret.clone()), tenant, ..known })?;
    Ok(profiles.path().to_owned())
}

fn in_words(location: &str, key: &Key, secret: &Secret, saved: Option<(&str, &Path)>) -> String {
    let kept = match saved {
        Some((name, path)) => format!("it is shown this once, and kept in the profile `{name}` of {}", path.display()),
        None => "it is shown this once, and kept nowhere".to_owned(),
    };
    format!(
        "a store at {location}, with the tenant `{}`\nthe operator's key {}:\n{}\n{kept}\nserve it: sandmill serve --store {location}",
        TenantId::local(),
        key.id,
        secret.expose()
    )
}
