//! Stores that somebody has damaged: it is noticed, named, and not made worse.

use std::sync::Arc;

use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use sandmill_catalog::store::{Catalog, Revision, Store, StoreError, StoreOptions, Trouble, doctor};

use crate::fixture::{Backend, add_tenant, bytes, change, is_gone, key_added, released, tenant, upload};

const RECORD: &str = "tenants/acme/log/0000000000000003.json";
const CHECKPOINT: &str = "tenants/acme/checkpoints/0000000000000004.json";

/// Six records, the second of which names an upload, with a checkpoint after the fourth.
async fn filled() -> (Arc<InMemory>, Store) {
    let memory = Arc::<InMemory>::default();
    let options = StoreOptions { checkpoint_every: 4, ..StoreOptions::default() };
    let store = Backend::Memory(memory.clone()).try_open(options).await.expect("a store");
    let catalog = Catalog::load(store.clone()).await.expect("loaded");
    add_tenant(&catalog, &tenant()).await;
    let folder = tempfile::tempdir().expect("a folder");
    let blob = upload(&store, folder.path(), &bytes(500, 1)).await;
    change(&catalog, key_added("a")).await;
    change(&catalog, released("digits", 1, [blob])).await;
    for key in ["b", "c", "d", "e"] {
        change(&catalog, key_added(key)).await;
    }
    assert!(doctor(&store).await.expect("read").is_clean());
    (memory, store)
}

async fn read(memory: &InMemory, path: &str) -> String {
    let found = memory.get(&Path::from(path)).await.expect("there");
    String::from_utf8(found.bytes().await.expect("read").into()).expect("UTF-8")
}

async fn write(memory: &InMemory, path: &str, text: String) {
    memory.put(&Path::from(path), text.into()).await.expect("written");
}

async fn troubles(store: &Store) -> Vec<Trouble> {
    doctor(store).await.expect("read").logs.remove(1).troubles
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_beyond_its_bound_is_neither_written_nor_read() {
    let (memory, store) = filled().await;
    let options = StoreOptions { checkpoint_every: 4, checkpoint_bytes_max: 100, ..StoreOptions::default() };
    let small = Backend::Memory(memory.clone()).try_open(options).await.expect("a store");
    let catalog = Catalog::load(small.clone()).await.expect("loaded");
    change(&catalog, key_added("f")).await;
    assert_eq!(change(&catalog, key_added("g")).await, Revision(8));
    assert_eq!(doctor(&store).await.expect("read").logs.remove(1).checkpoints, 1, "of 4, and none of 8");
    let (head, all) = (small.tenant_log(&tenant()).load().await, store.tenant_log(&tenant()).load().await);
    assert_eq!(head.expect("loaded"), all.expect("loaded"));
    // Whoever takes the checkpoint needs no record before it.
    memory.delete(&Path::from(RECORD)).await.expect("deleted");
    assert_eq!(store.tenant_log(&tenant()).load().await.expect("loaded").revision, Revision(8));
    let lost = small.tenant_log(&tenant()).load().await;
    assert!(lost.as_ref().map_or(true, |head| head.revision < Revision(8)), "{lost:?}");
}

#[tokio::test(start_paused = true)]
async fn a_damaged_record_is_named_whatever_is_wrong_with_it() {
    let cases: [(&str, &str, &str); 6] = [
        ("{\"v\":1", "{\"v\":2", "was written by a newer Sandmill, in schema 2; this one knows 1"),
        ("{\"v\":1", "{\"v\":0", "there is no schema 0"),
        ("{\"v\":1", "{\"v\":1,\"later\":1", "unknown field `later`"),
        ("key_added", "key_blessed", "unknown variant `key_blessed`"),
        ("\"id\":\"b\"", "\"id\":\"a\"", "it does not follow: key `a` is there already"),
        ("{", "", "is damaged"),
    ];
    for (from, to, text) in cases {
        let (memory, store) = filled().await;
        let record = read(&memory, RECORD).await;
        write(&memory, RECORD, record.replacen(from, to, 1)).await;
        let error = store.tenant_log(&tenant()).replay().await.expect_err(text);
        assert!(error.to_string().starts_with(RECORD) && error.to_string().contains(text), "{error}");
        assert!(matches!(&troubles(&store).await[..], [Trouble::Record(found)] if *found == error), "{text}");
        // What came before the checkpoint is not read at a start.
        assert!(store.tenant_log(&tenant()).load().await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_of_any_size_is_not_read() {
    let (memory, store) = filled().await;
    write(&memory, RECORD, " ".repeat((1 << 20) + 1)).await;
    let error = store.tenant_log(&tenant()).replay().await.expect_err("too large");
    assert!(error.to_string().starts_with("tenants/acme/log/0000000000000003.json in memory is too large"), "{error}");
    assert!(matches!(&troubles(&store).await[..], [Trouble::Record(found)] if *found == error));
}

#[tokio::test(start_paused = true)]
async fn one_tenants_damage_is_not_anothers() {
    let (memory, store) = filled().await;
    let other = sandmill_domain::TenantId::local();
    add_tenant(&Catalog::load(store.clone()).await.expect("loaded"), &other).await;
    write(&memory, "tenants/acme/log/0000000000000006.json", "{}".into()).await;
    let catalog = Catalog::load(store).await.expect("the others are served");
    assert_eq!(catalog.snapshot().tenants.keys().collect::<Vec<_>>(), [&other]);
    assert!(matches!(catalog.snapshot().damaged[&tenant()], StoreError::Corrupt { .. }));
    assert!(matches!(catalog.refresh().await, Err(StoreError::Corrupt { .. })));
    let author = crate::fixture::author();
    let refused = catalog.change_tenant(&tenant(), None, &author, |_| Ok(key_added("x"))).await;
    assert!(refused.expect_err("not upon damage").to_string().contains("0000000000000006.json"));
}

#[tokio::test(start_paused = true)]
async fn a_gap_is_no_end() {
    for number in [1, 3, 4, 5] {
        let (memory, store) = filled().await;
        let path = format!("tenants/acme/log/{number:016}.json");
        memory.delete(&Path::from(path.as_str())).await.expect("deleted");
        let log = store.tenant_log(&tenant());
        assert!(log.replay().await.expect_err("a gap").to_string().starts_with(&path));
        // Those before the checkpoint, but for its own, are not read at a start.
        assert_eq!(log.load().await.is_err(), number >= 4, "{number}");
        assert!(
            matches!(&troubles(&store).await[..], [Trouble::Record(StoreError::Corrupt { object, .. })] if object.starts_with(&path))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_damaged_checkpoint_costs_time_and_is_told() {
    for (from, to) in [("\"label\":\"Key a\"", "\"label\":\"Key z\""), ("\"revision\":4", "\"revision\":5"), ("{", "")] {
        let (memory, store) = filled().await;
        let before = store.tenant_log(&tenant()).replay().await.expect("read");
        let checkpoint = read(&memory, CHECKPOINT).await;
        write(&memory, CHECKPOINT, checkpoint.replacen(from, to, 1)).await;
        assert_eq!(store.tenant_log(&tenant()).load().await.as_ref(), Ok(&before));
        assert!(matches!(&troubles(&store).await[..], [Trouble::Checkpoint(StoreError::Corrupt { .. })]), "{to}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_that_says_other_things_than_the_records_is_told() {
    let (memory, store) = filled().await;
    let record = read(&memory, RECORD).await;
    write(&memory, RECORD, record.replacen("Key b", "Key z", 1)).await;
    assert_eq!(troubles(&store).await, [Trouble::Differs { revision: Revision(4) }]);
}

#[tokio::test(start_paused = true)]
async fn damaged_uploads_are_told() {
    let (memory, store) = filled().await;
    let head = store.tenant_log(&tenant()).load().await.expect("read");
    let blob = *head.state.live_blobs().next().expect("one");
    let path = format!("tenants/acme/blobs/{}/{}", blob.sha256, blob.place);
    for text in ["x".repeat(500), "x".repeat(499)] {
        write(&memory, &path, text).await;
        assert!(matches!(&troubles(&store).await[..], [Trouble::Blob(found, StoreError::Corrupt { .. })] if *found == blob));
    }
    memory.delete(&Path::from(path)).await.expect("deleted");
    assert!(is_gone(&store, &blob).await);
    assert!(matches!(&troubles(&store).await[..], [Trouble::Blob(found, StoreError::Missing { .. })] if *found == blob));
}

#[tokio::test(start_paused = true)]
async fn a_store_of_another_schema_is_left_alone() {
    for (text, told) in [
        (
            "{\"v\":2,\"kind\":\"sandmill catalog\",\"more\":true}",
            "format.json in memory was written by a newer Sandmill, in schema 2",
        ),
        ("{\"v\":1,\"kind\":\"something else\"}", "format.json in memory is damaged"),
        ("what is this", "format.json in memory is damaged"),
    ] {
        let memory = Arc::<InMemory>::default();
        write(&memory, "format.json", text.into()).await;
        let error = Backend::Memory(memory.clone()).try_open(StoreOptions::default()).await.expect_err(text);
        assert!(error.to_string().starts_with(told), "{error}");
        let objects = futures_util::StreamExt::count(memory.list(None)).await;
        assert_eq!(objects, 1, "nothing was written");
    }
}
