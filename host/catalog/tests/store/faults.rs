//! Stores that fail: what is acknowledged is there, what is refused is not, and what nobody can know is said to be so.

use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStoreExt;
use object_store::path::Path;
use sandmill_catalog::Digest;
use sandmill_catalog::store::{
    Catalog, ChangeError, Head, Log, Revision, Store, StoreError, StoreOptions, TenantChange, TenantState, doctor,
};

use crate::faulty::Fault::{
    After, Before, Broken, Full, Garble, Lag, Late, Lie, Pass, Refuse, Replace, SayExists, SilentAfter, SilentBefore, Unsent,
};
use crate::faulty::Op::{Complete, Delete, Get, List, Part, Put};
use crate::faulty::{ALWAYS, Fault, Faulty};
use crate::fixture::{Backend, bytes, change, entry, file, key_added, tenant};

const RECORDS: &str = "/log/";
const BLOBS: &str = "/blobs/";

async fn open(faulty: &Arc<Faulty>) -> Store {
    Backend::Faulty(faulty.clone()).open().await
}

/// A log with one record.
async fn begun() -> (Arc<Faulty>, Log<TenantState>, Head<TenantState>) {
    let faulty = Faulty::new();
    let log = open(&faulty).await.tenant_log(&tenant());
    let head = log.append(&Head::default(), &entry(key_added("first"))).await.expect("first");
    (faulty, log, head)
}

/// The store's error of a change.
fn store_error<T: std::fmt::Debug>(result: Result<T, ChangeError>) -> StoreError {
    match result {
        Err(ChangeError::Store(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_survives_what_passes() {
    for fault in [Before, After, SilentBefore, SilentAfter, Late, SayExists, Unsent] {
        for times in 1..=3 {
            let (faulty, log, head) = begun().await;
            faulty.inject(Put, RECORDS, fault, times);
            faulty.inject(Get, RECORDS, Before, 1);
            let made = log.append(&head, &entry(key_added("second"))).await;
            let made = made.unwrap_or_else(|error| panic!("{fault:?} × {times}: {error}"));
            assert_eq!(log.replay().await.as_ref(), Ok(&made), "{fault:?}");
            assert_eq!(made.revision, Revision(2), "once, however often it was tried");
        }
    }
}

/// What a change ends with if the fault does not pass; and whether it was made, as is seen when the store is well again.
async fn ends(fault: Fault) -> (StoreError, bool) {
    let (faulty, log, head) = begun().await;
    faulty.inject(Put, RECORDS, fault, ALWAYS);
    let error = store_error(log.append(&head, &entry(key_added("second"))).await);
    assert_eq!(log.catch_up(&head).await.map(|head| head.revision.0), log.replay().await.map(|head| head.revision.0));
    faulty.heal();
    let after = log.replay().await.expect("readable");
    (error, after.revision > head.revision)
}

#[tokio::test(start_paused = true)]
async fn a_change_that_was_not_made_is_told_apart_from_one_that_nobody_knows_of() {
    assert!(matches!(ends(Refuse).await, (StoreError::Refused { .. }, false)));
    assert!(matches!(ends(Full).await, (StoreError::Full { .. }, false)));
    assert!(matches!(ends(Unsent).await, (StoreError::Unreachable { .. }, false)));
    assert!(matches!(ends(Lie).await, (StoreError::Unfaithful { .. }, false)));
    assert!(matches!(ends(Before).await, (StoreError::Unknown { .. }, false)));
    assert!(matches!(ends(SilentBefore).await, (StoreError::Unknown { .. }, false)));
    assert!(matches!(ends(SayExists).await, (StoreError::Unknown { .. }, false)));
    // What is seen on a medium that fails may not be there after the next start.
    assert!(matches!(ends(Broken).await, (StoreError::Unknown { .. }, true)));
}

#[tokio::test(start_paused = true)]
async fn a_record_that_readers_would_refuse_is_not_written() {
    let (_, log, head) = begun().await;
    // Within the bounds of its parts; as JSON, each of its letters takes six.
    let manifest = "\u{1}".repeat(250_000);
    let (files, pins) = (Default::default(), Default::default());
    let (function, number) = (crate::fixture::function("digits"), crate::fixture::release_number(1));
    let large = TenantChange::Released { function, number, manifest, files, pins };
    let error = store_error(log.append(&head, &entry(large)).await);
    assert!(matches!(error, StoreError::TooLarge { max: 1_048_576, .. }), "{error}");
    assert_eq!(log.replay().await.as_ref(), Ok(&head));
}

#[tokio::test(start_paused = true)]
async fn a_change_whose_fate_cannot_be_read_is_unknown() {
    for fault in [After, SilentAfter] {
        let (faulty, log, head) = begun().await;
        faulty.inject(Put, RECORDS, fault, ALWAYS);
        faulty.inject(Get, RECORDS, Before, ALWAYS);
        let error = store_error(log.append(&head, &entry(key_added("second"))).await);
        assert!(matches!(error, StoreError::Unknown { .. }), "{error}");
        assert!(error.to_string().contains("tenants/acme/log/0000000000000002.json in faulty: nobody can tell"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_not_taken_for_ones_own_when_another_was_first() {
    for fault in [Before, SilentBefore, SayExists] {
        let (faulty, log, head) = begun().await;
        faulty.inject(Put, RECORDS, fault, 1);
        let (mine, theirs) = (entry(key_added("mine")), entry(key_added("theirs")));
        let rival = async {
            // The other comes while the first waits for its second try.
            tokio::task::yield_now().await;
            log.append(&head, &theirs).await
        };
        let (first, second) = tokio::join!(log.append(&head, &mine), rival);
        let won = second.expect("the other is first");
        assert!(matches!(store_error(first), StoreError::Conflict { present: Revision(2), .. }), "{fault:?}");
        assert_eq!(log.replay().await.as_ref(), Ok(&won));
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_keep_its_word_is_refused_when_it_is_opened() {
    let cases = [
        (Put, Replace, "does not create objects only if they are absent"),
        (Put, Lie, "does not create objects only if they are absent"),
        (Put, Refuse, "refuses this host"),
        (Put, Full, "is full"),
        (Put, Before, "nobody can tell"),
        (Put, SilentBefore, "nobody can tell"),
        (Get, SilentBefore, "does not answer"),
        (Get, Garble, "does not create objects only if they are absent"),
        (List, Lag, "is not listed"),
        (Delete, Refuse, "refuses this host"),
    ];
    for (op, fault, text) in cases {
        let faulty = Faulty::new();
        faulty.inject(op, "probe", fault, ALWAYS);
        let error = Backend::Faulty(faulty).try_open(StoreOptions::default()).await.expect_err("refused");
        assert!(error.to_string().contains(text), "{op:?} {fault:?}: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_replaces_what_has_been_there_for_a_while_is_refused() {
    let faulty = Faulty::new();
    faulty.inject(Put, "probe", Pass, 4);
    faulty.inject(Put, "probe", Replace, ALWAYS);
    let error = Backend::Faulty(faulty).try_open(StoreOptions::default()).await.expect_err("refused");
    assert!(error.to_string().contains("it replaced an object that was there"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_store_is_opened_in_spite_of_what_passes() {
    for (op, fault) in [(Put, Before), (Put, After), (Put, SilentAfter), (Get, Before), (List, Before), (Delete, Before)] {
        for times in 1..=3 {
            let faulty = Faulty::new();
            faulty.inject(op, "", fault, times);
            let opened = Backend::Faulty(faulty).try_open(StoreOptions::default()).await;
            assert!(opened.is_ok(), "{op:?} {fault:?} × {times}: {opened:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_snapshot_stays_while_the_store_is_away() {
    let faulty = Faulty::new();
    let backend = Backend::Faulty(faulty.clone());
    let (catalog, other) = (backend.catalog().await, backend.catalog().await);
    change(&catalog, key_added("a")).await;
    let before = catalog.snapshot();
    assert_eq!(catalog.staleness(), None);
    change(&other, key_added("b")).await;
    faulty.inject(Get, "", SilentBefore, ALWAYS);
    let began = tokio::time::Instant::now();
    for _ in 0..2 {
        assert!(matches!(catalog.refresh().await, Err(StoreError::Unreachable { .. })));
    }
    let stale = catalog.staleness().expect("stale");
    assert!(stale.why.to_string().contains("no answer within 10s"), "{}", stale.why);
    assert!(stale.since - began < Duration::from_secs(60), "since the first failure");
    assert_eq!(catalog.snapshot().tenants, before.tenants);
    faulty.heal();
    catalog.refresh().await.expect("well again");
    assert_eq!((catalog.staleness(), catalog.snapshot().tenants[&tenant()].revision), (None, Revision(2)));
}

#[tokio::test(start_paused = true)]
async fn a_full_store_is_read_on() {
    let faulty = Faulty::new();
    let catalog = Backend::Faulty(faulty.clone()).catalog().await;
    change(&catalog, key_added("a")).await;
    faulty.inject(Put, "", Full, ALWAYS);
    let full = catalog.change_tenant(&tenant(), None, &crate::fixture::author(), |_| Ok(key_added("b"))).await;
    assert!(matches!(store_error(full), StoreError::Full { .. }));
    catalog.refresh().await.expect("read");
    let fresh = Catalog::load(catalog.store().clone()).await.expect("read");
    assert_eq!(fresh.snapshot().tenants, catalog.snapshot().tenants);
}

#[tokio::test(start_paused = true)]
async fn checkpoints_are_never_needed() {
    let faulty = Faulty::new();
    let store = Backend::Faulty(faulty.clone()).try_open(StoreOptions { checkpoint_every: 2, ..StoreOptions::default() }).await;
    let log = store.expect("a store").tenant_log(&tenant());
    let mut head = Head::default();
    for (number, fault) in [Before, After, SilentBefore, Lie, Full, Refuse].into_iter().enumerate() {
        for half in ["a", "b"] {
            faulty.inject(Put, "/checkpoints/", fault, 1);
            head = log.append(&head, &entry(key_added(&format!("{number}{half}")))).await.expect("made");
            faulty.heal();
        }
    }
    assert_eq!(log.load().await.as_ref(), Ok(&head));
    faulty.inject(List, "/checkpoints", Lag, 1);
    assert_eq!(log.load().await.as_ref(), Ok(&head), "a list that lags only costs time");
    faulty.inject(Get, "/checkpoints/", Garble, 1);
    assert_eq!(log.load().await.as_ref(), Ok(&head), "one that is damaged is passed over");
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_read_is_named() {
    let (faulty, log, _) = begun().await;
    faulty.inject(Get, RECORDS, Garble, 1);
    let error = log.load().await.expect_err("damaged");
    assert!(error.to_string().starts_with("tenants/acme/log/0000000000000001.json in faulty is damaged"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn uploads_survive_what_passes() {
    let folder = tempfile::tempdir().expect("a folder");
    let small = bytes(1000, 1);
    let large = bytes(200_000, 2);
    for (content, op, fault) in [
        (&small, Put, Before),
        (&small, Put, After),
        (&small, Put, SilentBefore),
        (&small, Put, SilentAfter),
        (&large, Part, Before),
        (&large, Part, SilentBefore),
        (&large, Complete, Before),
        (&large, Complete, After),
        (&large, Complete, SilentAfter),
        (&large, Get, Before),
        (&small, Get, SilentBefore),
    ] {
        let faulty = Faulty::new();
        let blobs = open(&faulty).await.blobs(&tenant());
        faulty.inject(op, BLOBS, fault, 2);
        let path = file(folder.path(), "upload", content);
        let blob = blobs.put(&path, Digest::of(content), content.len() as u64).await;
        let blob = blob.unwrap_or_else(|error| panic!("{op:?} {fault:?}: {error}"));
        blobs.fetch(&blob, &folder.path().join("back")).await.expect("fetched");
        assert!(std::fs::read(folder.path().join("back")).expect("there") == *content);
    }
}

#[tokio::test(start_paused = true)]
async fn uploads_that_did_not_arrive_are_not_acknowledged() {
    let folder = tempfile::tempdir().expect("a folder");
    let (small, large) = (bytes(1000, 1), bytes(200_000, 2));
    for (content, op, fault, text) in [
        (&small, Put, Lie, "cannot be trusted"),
        (&small, Put, Full, "is full"),
        (&small, Put, Refuse, "refuses"),
        (&small, Put, SilentBefore, "does not answer"),
        (&large, Part, Lie, "cannot be trusted: it said that it had taken 200000 bytes"),
        (&large, Part, Full, "is full"),
        (&large, Complete, SilentBefore, "does not answer"),
    ] {
        let faulty = Faulty::new();
        let blobs = open(&faulty).await.blobs(&tenant());
        faulty.inject(op, BLOBS, fault, ALWAYS);
        let path = file(folder.path(), "upload", content);
        let error = blobs.put(&path, Digest::of(content), content.len() as u64).await.expect_err("it is not there");
        assert!(error.to_string().contains(text), "{op:?} {fault:?}: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_download_that_is_not_what_was_uploaded_is_not_kept() {
    let faulty = Faulty::new();
    let store = open(&faulty).await;
    let folder = tempfile::tempdir().expect("a folder");
    let blob = crate::fixture::upload(&store, folder.path(), b"content").await;
    faulty.inject(Get, BLOBS, Garble, 1);
    let into = folder.path().join("back");
    let error = store.blobs(&tenant()).fetch(&blob, &into).await.expect_err("damaged");
    assert!(matches!(error, StoreError::Corrupt { .. }) && !into.exists(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_record_is_not_written_anew() {
    let (faulty, log, head) = begun().await;
    log.append(&head, &entry(key_added("second"))).await.expect("made");
    faulty.inner().delete(&Path::from("tenants/acme/log/0000000000000001.json")).await.expect("deleted");
    let error = log.load().await.expect_err("a gap");
    assert!(
        error.to_string().starts_with("tenants/acme/log/0000000000000001.json in faulty is damaged: it is missing"),
        "{error}"
    );
    let report = doctor(&open(&faulty).await).await.expect("read");
    assert!(report.is_clean(), "no tenant is known yet");
}
