//! Stores, and what tests put into them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use object_store::memory::InMemory;
use sandmill_catalog::Digest;
use sandmill_catalog::store::{
    Author, BlobRef, Catalog, Entry, Key, Place, Revision, Store, StoreError, StoreOptions, SystemChange, TenantChange,
};
use sandmill_domain::control::Quotas;
use sandmill_domain::{FunctionName, Label, ReleaseNumber, Scope, TenantId};

use crate::faulty::Faulty;

/// Some store, which can be opened again.
#[derive(Clone)]
pub(crate) enum Backend {
    Memory(Arc<InMemory>),
    Folder(PathBuf),
    Faulty(Arc<Faulty>),
    Cloud(String),
}

impl Backend {
    pub(crate) fn memory() -> Self {
        Self::Memory(Arc::default())
    }

    pub(crate) async fn try_open(&self, options: StoreOptions) -> Result<Store, StoreError> {
        match self {
            Self::Memory(client) => Store::over(client.clone(), "memory", options).await,
            Self::Folder(path) => Store::open(path.to_str().expect("UTF-8"), options).await,
            Self::Faulty(client) => Store::over(client.clone(), "faulty", options).await,
            Self::Cloud(location) => Store::open(location, options).await,
        }
    }

    pub(crate) async fn open(&self) -> Store {
        self.try_open(self.options()).await.expect("a store")
    }

    /// Small parts, so that small files have several; what S3 takes has its own least.
    pub(crate) fn options(&self) -> StoreOptions {
        let part_bytes = if matches!(self, Self::Cloud(_)) { 5 << 20 } else { 64 << 10 };
        // Where time is not virtual, waits are short.
        let backoff_first = Duration::from_millis(5);
        StoreOptions { part_bytes, backoff_first, ..StoreOptions::default() }
    }

    /// How many changes one of many writers makes.
    pub(crate) fn changes(&self) -> usize {
        if matches!(self, Self::Cloud(_)) { 10 } else { 100 }
    }

    /// With a tenant in it.
    pub(crate) async fn catalog(&self) -> Catalog {
        let catalog = Catalog::load(self.open().await).await.expect("loaded");
        if !catalog.snapshot().tenants.contains_key(&tenant()) {
            add_tenant(&catalog, &tenant()).await;
        }
        catalog
    }
}

pub(crate) async fn add_tenant(catalog: &Catalog, tenant: &TenantId) {
    let change = SystemChange::TenantAdded { tenant: tenant.clone(), weight: 1, quotas: Quotas::default() };
    catalog.change_system(None, &author(), |_| Ok(change.clone())).await.expect("added");
    catalog.refresh().await.expect("refreshed");
}

pub(crate) fn tenant() -> TenantId {
    TenantId::new("acme").expect("a name")
}

pub(crate) fn author() -> Author {
    author_at(1_000)
}

pub(crate) fn author_at(at_ms: u64) -> Author {
    Author { by: "alice".into(), from: "192.0.2.1".into(), at_ms }
}

pub(crate) fn entry<C>(change: C) -> Entry<C> {
    Entry::new(&author(), change)
}

pub(crate) fn label(text: &str) -> Label {
    Label::new(text).expect("a label")
}

pub(crate) fn function(name: &str) -> FunctionName {
    FunctionName::new(name).expect("a name")
}

pub(crate) fn release_number(number: u64) -> ReleaseNumber {
    ReleaseNumber(NonZeroU64::new(number).expect("from 1 on"))
}

pub(crate) fn key(id: &str) -> Key {
    let scopes = BTreeSet::from([Scope::Invoke]);
    Key { id: label(id), scopes, sha256: Digest::of(id.as_bytes()), label: format!("Key {id}"), expires_at_ms: None }
}

pub(crate) fn key_added(id: &str) -> TenantChange {
    TenantChange::KeyAdded(key(id))
}

/// An upload that is in no store.
pub(crate) fn blob(number: u128) -> BlobRef {
    BlobRef { sha256: Digest::of(&number.to_be_bytes()), len: 16, place: Place::of(number) }
}

pub(crate) fn released(name: &str, number: u64, files: impl IntoIterator<Item = BlobRef>) -> TenantChange {
    let files: BTreeMap<_, _> = files.into_iter().enumerate().map(|(at, blob)| (format!("file-{at}"), blob)).collect();
    let manifest = "[model]\npath = 'file-0'\n".to_owned();
    TenantChange::Released { function: function(name), number: release_number(number), manifest, files, pins: BTreeSet::new() }
}

/// A change whatever the state is.
pub(crate) async fn change(catalog: &Catalog, change: TenantChange) -> Revision {
    catalog.change_tenant(&tenant(), None, &author(), |_| Ok(change.clone())).await.expect("changed")
}

/// Bytes that are not all alike.
pub(crate) fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..len).map(|_| next()).collect()
}

pub(crate) fn file(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, bytes).expect("written");
    path
}

pub(crate) async fn upload(store: &Store, folder: &Path, bytes: &[u8]) -> BlobRef {
    let path = file(folder, "upload", bytes);
    store.blobs(&tenant()).put(&path, Digest::of(bytes), bytes.len() as u64).await.expect("uploaded")
}

/// One that is not there any more, nor will be.
pub(crate) async fn is_gone(store: &Store, blob: &BlobRef) -> bool {
    matches!(store.blobs(&tenant()).check(blob).await, Err(StoreError::Missing { .. }))
}
