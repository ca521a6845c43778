//! What every store does, in one suite that each of them passes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use sandmill_catalog::Digest;
use sandmill_catalog::store::{
    Catalog, ChangeError, Grace, Head, Id, Log, Owner, Refusal, Revision, StoreError, SystemChange, TenantChange, TenantState,
    doctor,
};
use sandmill_domain::{TenantId, Usage};

use crate::faulty::Faulty;
use crate::fixture::{
    Backend, add_tenant, author, bytes, change, entry, file, function, is_gone, key_added, label, released, tenant, upload,
};

/// Every case, on a store of its own that `make` names.
pub(crate) async fn keep(make: impl Fn(&str) -> Backend) {
    uploads_come_back_as_they_went(&make("uploads")).await;
    an_upload_that_is_not_as_it_was_said_is_refused(&make("refused")).await;
    one_writer_wins_and_the_other_is_told(&make("conflict")).await;
    catalogs_see_each_other(&make("catalogs")).await;
    a_start_reads_the_newest_checkpoint(&make("checkpoints")).await;
    many_writers_make_one_history(&make("history")).await;
    what_nothing_names_is_deleted(&make("collected")).await;
    many_tenants_share_nothing(&make("tenants")).await;
    what_hosts_saw_used_adds_up(&make("usage")).await;
}

#[tokio::test(start_paused = true)]
async fn memory_keeps_the_contract() {
    keep(|_| Backend::memory()).await;
}

#[tokio::test(start_paused = true)]
async fn a_faulty_store_without_faults_keeps_the_contract() {
    keep(|_| Backend::Faulty(Faulty::new())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_keeps_the_contract() {
    let root = tempfile::tempdir().expect("a folder");
    keep(|name| Backend::Folder(root.path().join(name))).await;
}

async fn what_hosts_saw_used_adds_up(backend: &Backend) {
    let store = backend.open().await;
    let hosts = [Id::of(1), Id::of(2)];
    let used = |requests| BTreeMap::from([(function("echo"), Usage { requests, model_us: 2 * requests, ..Usage::default() })]);
    for (hour, host, requests) in [(9, 0, 1), (10, 0, 5), (10, 1, 7), (10, 0, 6), (11, 1, 100), (12, 0, 1000)] {
        store.write_usage(&tenant(), hour, hosts[host], used(requests)).await.expect("written");
    }
    let hours = store.usage(&tenant(), 10, 11).await.expect("read");
    // What the first host wrote last of the hour counts, and what the second did.
    assert_eq!(hours, BTreeMap::from([(10, used(13)), (11, used(100))]));
    assert_eq!(store.usage(&tenant(), 13, 20).await.expect("read"), BTreeMap::new());
    assert_eq!(store.usage(&tenant(), 0, u64::MAX).await.expect("read").len(), 4);
}

async fn uploads_come_back_as_they_went(backend: &Backend) {
    let store = backend.open().await;
    let folder = tempfile::tempdir().expect("a folder");
    let part = backend.options().part_bytes;
    for len in [0, 1, part, part + 1, 2 * part + 7] {
        let content = bytes(len, len as u64);
        let blob = upload(&store, folder.path(), &content).await;
        assert_eq!((blob.sha256, blob.len), (Digest::of(&content), len as u64));
        let into = folder.path().join("back");
        store.blobs(&tenant()).fetch(&blob, &into).await.expect("fetched");
        assert!(fs::read(&into).expect("there") == content, "{len} bytes");
        assert_eq!(fs::metadata(&into).expect("there").permissions().mode() & 0o777, 0o600);
        let twin = upload(&store, folder.path(), &content).await;
        assert_ne!(twin.place, blob.place);
        let stranger = store.blobs(&TenantId::local()).check(&blob).await;
        assert!(matches!(stranger, Err(StoreError::Missing { .. })), "{stranger:?}");
    }
    let blob = upload(&store, folder.path(), b"x").await;
    for into in [folder.path().to_owned(), folder.path().join("none/x")] {
        let error = store.blobs(&tenant()).fetch(&blob, &into).await.expect_err("no place for a file");
        assert!(matches!(error, StoreError::File { .. }), "{error}");
    }
    let files: BTreeSet<_> = fs::read_dir(folder.path()).expect("there").map(|entry| entry.expect("one").file_name()).collect();
    assert_eq!(files, BTreeSet::from(["upload".into(), "back".into()]), "nothing is left over");
}

async fn an_upload_that_is_not_as_it_was_said_is_refused(backend: &Backend) {
    let store = backend.open().await;
    let folder = tempfile::tempdir().expect("a folder");
    let blobs = store.blobs(&tenant());
    let part = backend.options().part_bytes;
    for len in [10, 2 * part] {
        let content = bytes(len, 1);
        let path = file(folder.path(), "file", &content);
        for (digest, told) in [(Digest::of(b"x"), len), (Digest::of(&content), len - 1), (Digest::of(&content), len + 1)] {
            let error = blobs.put(&path, digest, told as u64).await.expect_err("not as it was said");
            assert!(matches!(&error, StoreError::File { path, .. } if path.ends_with("/file")), "{error}");
        }
    }
    let none = blobs.put(&folder.path().join("none"), Digest::of(b""), 0).await;
    assert!(matches!(none, Err(StoreError::File { .. })));
    let huge = blobs.put(&folder.path().join("none"), Digest::of(b""), u64::MAX).await;
    assert!(matches!(huge, Err(StoreError::TooLarge { .. })));
}

async fn one_writer_wins_and_the_other_is_told(backend: &Backend) {
    let store = backend.open().await;
    let log = store.tenant_log(&tenant());
    let empty = log.load().await.expect("loaded");
    assert_eq!(empty, Head::default());
    let first = log.append(&empty, &entry(key_added("a"))).await.expect("first");
    let late = log.append(&empty, &entry(key_added("b"))).await.expect_err("second");
    assert!(matches!(late, ChangeError::Store(StoreError::Conflict { present: Revision(1), .. })), "{late:?}");
    let again = log.append(&first, &entry(key_added("a"))).await.expect_err("taken");
    assert_eq!(again, ChangeError::Refused(Refusal::Taken("key `a`".into())));
    let second = log.append(&first, &entry(key_added("b"))).await.expect("second");
    assert_eq!(second.revision, Revision(2));
    assert_eq!(log.catch_up(&empty).await.as_ref(), Ok(&second));
    assert_eq!(log.load().await.as_ref(), Ok(&second));
    assert_eq!(log.replay().await.as_ref(), Ok(&second));
}

async fn catalogs_see_each_other(backend: &Backend) {
    let (one, two) = (backend.catalog().await, backend.catalog().await);
    let made = change(&one, key_added("a")).await;
    assert_eq!(one.snapshot().tenants[&tenant()].revision, made);
    assert_eq!(two.snapshot().tenants[&tenant()].revision, Revision(0));
    let seen = Some(Revision(0));
    let told = two.change_tenant(&tenant(), seen, &author(), |_| Ok(key_added("b"))).await.expect_err("it is newer");
    assert!(matches!(told, ChangeError::Store(StoreError::Conflict { present, .. }) if present == made), "{told:?}");
    assert_eq!(two.snapshot().tenants[&tenant()].revision, made, "a conflict teaches");
    change(&one, key_added("c")).await;
    assert_eq!(change(&two, key_added("b")).await, Revision(3), "who gave no revision is not troubled");
    one.refresh().await.expect("refreshed");
    assert_eq!(one.snapshot().tenants[&tenant()], two.snapshot().tenants[&tenant()]);
    change(&one, key_added("new")).await;
    let revoked = TenantChange::KeyRevoked { id: label("new") };
    assert_eq!(change(&two, revoked).await, Revision(5), "what only an old state refuses is not refused");
    let gone = SystemChange::TenantRemoved { tenant: tenant() };
    one.change_system(None, &author(), |_| Ok(gone.clone())).await.expect("removed");
    two.refresh().await.expect("refreshed");
    assert!(one.snapshot().tenants.is_empty() && two.snapshot().tenants.is_empty());
    let unknown = two.change_tenant(&tenant(), None, &author(), |_| Ok(key_added("d"))).await;
    assert_eq!(unknown, Err(ChangeError::Refused(Refusal::Unknown("tenant `acme`".into()))));
}

async fn a_start_reads_the_newest_checkpoint(backend: &Backend) {
    let mut options = backend.options();
    options.checkpoint_every = 3;
    let store = backend.try_open(options).await.expect("a store");
    let catalog = Catalog::load(store.clone()).await.expect("loaded");
    add_tenant(&catalog, &tenant()).await;
    for number in 1..=11 {
        change(&catalog, key_added(&format!("key-{number}"))).await;
    }
    let log = store.tenant_log(&tenant());
    let head = log.load().await.expect("loaded");
    assert_eq!((head.revision, head.state.keys().len()), (Revision(11), 11));
    assert_eq!(log.replay().await.as_ref(), Ok(&head));
    let report = doctor(&store).await.expect("read");
    assert!(report.is_clean(), "{report:?}");
    let own = &report.logs[1];
    assert_eq!((&own.owner, own.revision, own.checkpoints), (&Owner::Tenant(tenant()), Revision(11), 2), "of 6 and of 9");
}

async fn many_writers_make_one_history(backend: &Backend) {
    const WRITERS: usize = 8;
    let first = backend.catalog().await;
    let store = first.store().clone();
    let writers: Vec<_> = (0..WRITERS).map(|writer| tokio::spawn(write(backend.clone(), writer))).collect();
    let mut acknowledged = BTreeSet::new();
    for writer in writers {
        acknowledged.extend(writer.await.expect("no panic"));
    }
    let count = WRITERS * backend.changes();
    assert_eq!(acknowledged.len(), count, "every change has a revision of its own");
    let log: Log<TenantState> = store.tenant_log(&tenant());
    let head = log.load().await.expect("loaded");
    assert_eq!((head.revision, head.state.keys().len()), (Revision(count as u64), count));
    for ((writer, number), revision) in all_keys(backend.changes(), WRITERS).zip(1..) {
        assert!(head.state.keys().contains_key(&label(&format!("w{writer}-{number}"))), "{revision}");
    }
    assert!(doctor(&store).await.expect("read").is_clean());
}

fn all_keys(changes: usize, writers: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..writers).flat_map(move |writer| (0..changes).map(move |number| (writer, number)))
}

/// A host of its own; a conflict that outlasts its retries is tried again.
async fn write(backend: Backend, writer: usize) -> Vec<Revision> {
    let catalog = backend.catalog().await;
    let mut made = Vec::new();
    for number in 0..backend.changes() {
        let added = key_added(&format!("w{writer}-{number}"));
        made.push(loop {
            match catalog.change_tenant(&tenant(), None, &author(), |_| Ok(added.clone())).await {
                Ok(revision) => break revision,
                Err(ChangeError::Store(StoreError::Conflict { .. })) => {}
                Err(error) => panic!("writer {writer}: {error}"),
            }
        });
    }
    made
}

async fn what_nothing_names_is_deleted(backend: &Backend) {
    let catalog = backend.catalog().await;
    let store = catalog.store().clone();
    let folder = tempfile::tempdir().expect("a folder");
    let mut blobs = Vec::new();
    for number in 1..=4 {
        let blob = upload(&store, folder.path(), &bytes(100, number)).await;
        change(&catalog, released("digits", number, [blob])).await;
        blobs.push(blob);
    }
    let orphan = upload(&store, folder.path(), b"nobody names it").await;
    let now = SystemTime::now();
    let grace = Grace { unnamed: Duration::from_secs(60), orphan: Duration::from_secs(3600) };
    let first = catalog.collect(&tenant(), now + Duration::from_secs(61), grace).await.expect("collected");
    assert_eq!((first.condemned, first.deleted), (1, 1), "the release that fell out; the orphan may still be named");
    assert!(is_gone(&store, &blobs[0]).await && !is_gone(&store, &orphan).await);
    let second = catalog.collect(&tenant(), now + Duration::from_secs(3700), grace).await.expect("collected");
    assert_eq!((second.condemned, second.deleted), (1, 1));
    assert!(is_gone(&store, &orphan).await);
    let late = released("angle", 1, [orphan]);
    let refused = catalog.change_tenant(&tenant(), None, &author(), |_| Ok(late.clone())).await;
    assert_eq!(refused, Err(ChangeError::Refused(Refusal::Condemned(orphan.place))));
    for blob in &blobs[1..] {
        store.blobs(&tenant()).check(blob).await.expect("kept");
    }
    let report = doctor(&store).await.expect("read");
    assert!(report.is_clean() && report.logs[1].orphans.is_empty() && report.logs[1].blobs == 3, "{report:?}");
    assert_eq!(catalog.snapshot().tenants[&tenant()].state.functions()[&function("digits")].kept().count(), 3);
}

async fn many_tenants_share_nothing(backend: &Backend) {
    let catalog = backend.catalog().await;
    let names: Vec<_> = (0..5).map(|number| TenantId::new(&format!("tenant-{number}")).expect("a name")).collect();
    for name in &names {
        add_tenant(&catalog, name).await;
        let added = key_added(name.as_str());
        catalog.change_tenant(name, None, &author(), |_| Ok(added.clone())).await.expect("added");
    }
    let other = Catalog::load(backend.open().await).await.expect("loaded");
    assert_eq!(other.snapshot().tenants.len(), 6);
    for name in &names {
        let keys: Vec<_> = other.snapshot().tenants[name].state.keys().keys().map(ToString::to_string).collect();
        assert_eq!(keys, [name.as_str()]);
    }
}
