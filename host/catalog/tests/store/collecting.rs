//! Collectors beside writers: whatever the order, nothing that is named is deleted.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use sandmill_catalog::Digest;
use sandmill_catalog::store::{
    BlobRef, Catalog, ChangeError, Grace, Id, Refusal, Revision, StoreError, SystemChange, TenantChange, doctor,
};
use sandmill_domain::{TenantId, Usage};

use crate::faulty::{ALWAYS, Fault, Faulty, Op};
use crate::fixture::{Backend, author, bytes, change, file, function, is_gone, released, tenant, upload};

/// No kindness: only what makes a collection safe is left.
const NONE: Grace = Grace { unnamed: Duration::ZERO, orphan: Duration::ZERO };

fn later() -> SystemTime {
    SystemTime::now() + Duration::from_secs(3600)
}

fn is_condemned(ended: &Result<impl Sized, ChangeError>) -> bool {
    matches!(ended, Err(ChangeError::Refused(Refusal::Condemned(_))))
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_was_condemned_first_cannot_be_named() {
    let catalog = Backend::memory().catalog().await;
    let folder = tempfile::tempdir().expect("a folder");
    let blob = upload(catalog.store(), folder.path(), b"late").await;
    catalog.collect(&tenant(), later(), NONE).await.expect("collected");
    let ended = catalog.change_tenant(&tenant(), None, &author(), |_| Ok(released("digits", 1, [blob]))).await;
    assert!(is_condemned(&ended) && is_gone(catalog.store(), &blob).await);
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_was_named_first_is_not_condemned_by_one_who_has_not_heard_of_it() {
    let backend = Backend::memory();
    let (writer, collector) = (backend.catalog().await, backend.catalog().await);
    let folder = tempfile::tempdir().expect("a folder");
    let blob = upload(writer.store(), folder.path(), b"just in time").await;
    collector.refresh().await.expect("refreshed");
    let condemned = TenantChange::Condemned { places: [blob.place].into() };
    let stale = collector.snapshot().tenants[&tenant()].clone();
    change(&writer, released("digits", 1, [blob])).await;
    // As a collector does that has looked before and writes now.
    let log = collector.store().tenant_log(&tenant());
    let lost = log.append(&stale, &crate::fixture::entry(condemned.clone())).await;
    assert!(matches!(lost, Err(ChangeError::Store(StoreError::Conflict { .. }))));
    let refused = collector.change_tenant(&tenant(), None, &author(), |_| Ok(condemned.clone())).await;
    assert_eq!(refused, Err(ChangeError::Refused(Refusal::InUse(blob.place))));
    collector.collect(&tenant(), later(), NONE).await.expect("collected");
    writer.store().blobs(&tenant()).check(&blob).await.expect("it is there");
}

#[tokio::test(start_paused = true)]
async fn the_same_bytes_uploaded_again_are_another_upload() {
    let catalog = Backend::memory().catalog().await;
    let folder = tempfile::tempdir().expect("a folder");
    let first = upload(catalog.store(), folder.path(), b"same").await;
    catalog.collect(&tenant(), later(), NONE).await.expect("collected");
    let second = upload(catalog.store(), folder.path(), b"same").await;
    change(&catalog, released("digits", 1, [second])).await;
    catalog.collect(&tenant(), later(), NONE).await.expect("collected");
    assert!(is_gone(catalog.store(), &first).await && !is_gone(catalog.store(), &second).await);
}

#[tokio::test(start_paused = true)]
async fn of_a_tenant_that_was_removed_its_log_stays() {
    let catalog = Backend::memory().catalog().await;
    let folder = tempfile::tempdir().expect("a folder");
    let other = TenantId::new("other").expect("a name");
    crate::fixture::add_tenant(&catalog, &other).await;
    let blob = upload(catalog.store(), folder.path(), b"left").await;
    change(&catalog, released("digits", 1, [blob])).await;
    let used = BTreeMap::from([(function("digits"), Usage { requests: 1, ..Usage::default() })]);
    for tenant in [&tenant(), &other] {
        catalog.store().write_usage(tenant, 5, Id::random(), used.clone()).await.expect("written");
    }
    let removed = SystemChange::TenantRemoved { tenant: tenant() };
    catalog.change_system(None, &author(), |_| Ok(removed.clone())).await.expect("removed");
    let grace = Grace { orphan: Duration::from_secs(3600), ..NONE };
    assert_eq!(catalog.collect_removed(SystemTime::now(), grace).await, Ok(0), "hosts may still read it");
    assert_eq!(catalog.collect_removed(later() + Duration::from_secs(60), grace).await, Ok(2));
    assert!(is_gone(catalog.store(), &blob).await);
    assert_eq!(catalog.store().usage(&tenant(), 0, 9).await.map(|hours| hours.len()), Ok(0));
    assert_eq!(catalog.store().usage(&other, 0, 9).await.map(|hours| hours.len()), Ok(1), "another tenant's");
    let kept = catalog.store().tenant_log(&tenant()).entries(Revision(0), 10).await.expect("read");
    assert_eq!(kept.len(), 1, "the audit");
}

#[tokio::test(start_paused = true)]
async fn a_collection_that_was_cut_off_is_ended_by_the_next() {
    let faulty = Faulty::new();
    let catalog = Backend::Faulty(faulty.clone()).catalog().await;
    let folder = tempfile::tempdir().expect("a folder");
    let blob = upload(catalog.store(), folder.path(), b"dead").await;
    faulty.inject(Op::Delete, "/blobs/", Fault::Refuse, ALWAYS);
    catalog.collect(&tenant(), later(), NONE).await.expect_err("it may not delete");
    faulty.heal();
    assert!(!is_gone(catalog.store(), &blob).await);
    let next = catalog.collect(&tenant(), later(), NONE).await.expect("collected");
    assert_eq!((next.condemned, next.deleted), (0, 1), "it was condemned before");
    assert!(is_gone(catalog.store(), &blob).await);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_lags_deletes_nothing_that_is_named() {
    let faulty = Faulty::new();
    let catalog = Backend::Faulty(faulty.clone()).catalog().await;
    let folder = tempfile::tempdir().expect("a folder");
    for number in 1..=4 {
        let blob = upload(catalog.store(), folder.path(), &bytes(10, number)).await;
        change(&catalog, released("digits", number, [blob])).await;
    }
    faulty.inject(Op::List, "/blobs", Fault::Lag, 1);
    let collected = catalog.collect(&tenant(), later(), NONE).await.expect("collected");
    assert_eq!((collected.condemned, collected.deleted), (1, 1), "the state knows what was named");
    let report = doctor(catalog.store()).await.expect("read");
    assert!(report.is_clean() && report.logs[1].orphans.is_empty(), "{report:?}");
}

#[tokio::test]
async fn halves_of_uploads_are_swept() {
    let root = tempfile::tempdir().expect("a folder");
    let catalog = Backend::Folder(root.path().into()).catalog().await;
    let folder = root.path().join("tenants/acme/blobs/00");
    fs::create_dir_all(&folder).expect("made");
    fs::write(folder.join("x#1"), "half").expect("written");
    let grace = Grace { orphan: Duration::from_secs(7200), ..NONE };
    assert_eq!(catalog.collect(&tenant(), later(), grace).await.expect("collected").leftovers, 0);
    assert_eq!(catalog.collect(&tenant(), later(), NONE).await.expect("collected").leftovers, 1);
}

/// Deployers that upload and release, and collectors without grace, all at once and on hosts of their own.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn collectors_and_writers_at_once_lose_nothing() {
    const ROUNDS: u64 = 30;
    let backend = Backend::memory();
    let first = backend.catalog().await;
    let done = Arc::<AtomicBool>::default();
    let deployers: Vec<_> = (0..4).map(|number| tokio::spawn(deploy(backend.clone(), number, ROUNDS))).collect();
    let collectors: Vec<_> = (0..2).map(|_| tokio::spawn(collect(backend.clone(), done.clone()))).collect();
    let mut refused = 0;
    for deployer in deployers {
        refused += deployer.await.expect("no panic");
    }
    done.store(true, Ordering::Relaxed);
    let mut deleted = 0;
    for collector in collectors {
        deleted += collector.await.expect("no panic");
    }
    let report = doctor(first.store()).await.expect("read");
    assert!(report.is_clean(), "{report:?}");
    first.refresh().await.expect("refreshed");
    let state = first.snapshot().tenants[&tenant()].state.clone();
    assert!(state.functions().values().all(|known| known.current.number.0.get() == ROUNDS));
    assert!(deleted > 0, "they met");
    println!("{refused} releases were too late, {deleted} uploads deleted");
}

/// How many releases came too late for their uploads, which were then uploaded again.
async fn deploy(backend: Backend, number: u64, rounds: u64) -> usize {
    let catalog = backend.catalog().await;
    let folder = tempfile::tempdir().expect("a folder");
    let name = format!("function-{number}");
    let mut refused = 0;
    for round in 1..=rounds {
        let content = bytes(64, round % 3);
        let path = file(folder.path(), "upload", &content);
        loop {
            let ended = match catalog.store().blobs(&tenant()).put(&path, Digest::of(&content), 64).await {
                Ok(blob) => release(&catalog, &name, round, blob).await,
                // Without grace, an upload may be gone before it is looked at.
                Err(StoreError::Unfaithful { .. }) => continue,
                Err(error) => panic!("{error}"),
            };
            if !is_condemned(&ended) {
                break ended.expect("released");
            }
            refused += 1;
        }
    }
    refused
}

async fn release(catalog: &Catalog, name: &str, number: u64, blob: BlobRef) -> Result<(), ChangeError> {
    loop {
        let ended = catalog.change_tenant(&tenant(), None, &author(), |_| Ok(released(name, number, [blob]))).await;
        if !matches!(ended, Err(ChangeError::Store(StoreError::Conflict { .. }))) {
            return ended.map(|_| ());
        }
    }
}

async fn collect(backend: Backend, done: Arc<AtomicBool>) -> usize {
    let catalog = backend.catalog().await;
    let mut deleted = 0;
    while !done.load(Ordering::Relaxed) {
        match catalog.collect(&tenant(), later(), NONE).await {
            Ok(collected) => deleted += collected.deleted,
            Err(ChangeError::Store(StoreError::Conflict { .. })) => {}
            Err(error) => panic!("{error}"),
        }
        tokio::task::yield_now().await;
    }
    deleted
}

#[tokio::test(start_paused = true)]
async fn what_plugins_and_models_name_stays() {
    let catalog = Backend::memory().catalog().await;
    let folder = tempfile::tempdir().expect("a folder");
    let plugin = upload(catalog.store(), folder.path(), b"plugin").await;
    let path = file(folder.path(), "model", b"model");
    let model = catalog.store().blobs(&tenant()).put(&path, Digest::of(b"model"), 5).await.expect("uploaded");
    let (name, version) = (crate::fixture::label("resize"), crate::fixture::label("1.0"));
    let about = "{}".to_owned();
    change(
        &catalog,
        TenantChange::PluginAdded { name: name.clone(), version: version.clone(), blob: plugin, about: about.clone() },
    )
    .await;
    let files = [("model.onnx".to_owned(), model)].into();
    change(&catalog, TenantChange::ModelAdded { name: name.clone(), version: version.clone(), files, about }).await;
    let none = catalog.collect(&tenant(), later(), NONE).await.expect("collected");
    assert_eq!(none.deleted, 0);
    change(&catalog, TenantChange::PluginRemoved { name: name.clone(), version: version.clone() }).await;
    change(&catalog, TenantChange::ModelRemoved { name, version }).await;
    change(&catalog, released("digits", 1, [])).await;
    change(&catalog, TenantChange::FunctionDeleted { function: function("digits") }).await;
    let both = catalog.collect(&tenant(), later(), NONE).await.expect("collected");
    assert_eq!((both.condemned, both.deleted), (2, 2));
    assert!(Path::new(&path).exists(), "what was uploaded from stays with its owner");
}
