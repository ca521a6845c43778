//! Disks that are full, and folders that may not be written to.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::thread;

use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use sandmill_catalog::Digest;
use sandmill_catalog::store::{Catalog, ChangeError, StoreError, StoreOptions, TenantChange, doctor};

use crate::fixture::{Backend, author, bytes, change, file, key_added, release_number, released, tenant, upload};

const STORE: &str = "SANDMILL_TEST_SMALL_STORE";

/// A limit of the file size ends writes as a full disk does: in the middle.
#[test]
fn a_full_disk_is_told_and_loses_nothing() {
    let root = tempfile::tempdir().expect("a folder");
    let exe = env::current_exe().expect("known");
    // 64 blocks are 32 KiB or 64 KiB, as the shell has it. The signal that comes with the limit stays ignored in the child.
    let script = "trap '' XFSZ; ulimit -f 64; exec \"$0\" --exact disk::a_child_with_little_room --nocapture";
    let output =
        Command::new("sh").args(["-c", script]).arg(exe).env(STORE, root.path().join("store")).output().expect("started");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && told.contains("the child is content"),
        "{told}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Does nothing but in a child.
#[tokio::test]
async fn a_child_with_little_room() {
    let Ok(store) = env::var(STORE) else { return };
    let backend = Backend::Folder(store.into());
    let options = StoreOptions { part_bytes: 256 << 10, ..backend.options() };
    let catalog = Catalog::load(backend.try_open(options).await.expect("a store")).await.expect("loaded");
    crate::fixture::add_tenant(&catalog, &tenant()).await;
    let folder = tempfile::tempdir().expect("a folder");
    let blob = upload(catalog.store(), folder.path(), &bytes(1000, 1)).await;
    change(&catalog, released("digits", 1, [blob])).await;
    fills_up(&catalog, folder.path()).await;
    // Small things still fit: reads go on, and writes.
    change(&catalog, key_added("small")).await;
    let fresh = Catalog::load(catalog.store().clone()).await.expect("loaded");
    assert_eq!(fresh.snapshot().tenants, catalog.snapshot().tenants);
    assert_eq!(fresh.snapshot().tenants[&tenant()].revision.0, 2);
    fresh.store().blobs(&tenant()).fetch(&blob, &folder.path().join("back")).await.expect("fetched");
    let report = doctor(fresh.store()).await.expect("read");
    assert!(report.is_clean() && report.logs[1].orphans.is_empty(), "{report:?}");
    println!("the child is content");
}

/// An upload of one part, one of several, and a record: all of them too large.
async fn fills_up(catalog: &Catalog, folder: &Path) {
    let large = bytes(100, 2).repeat(10_000);
    let source = folder.join("source");
    // More than may be written, but a sparse file may be as long as the limit: so one that is no file of ours.
    for len in [200_000, 1_000_000] {
        let content = &large[..len];
        let error = put_pipe(catalog, &source, content).await;
        assert!(matches!(&error, StoreError::Full { .. }) && error.to_string().contains("/store/tenants/acme/blobs"), "{error}");
    }
    let manifest = "#".repeat(200_000);
    let released = TenantChange::Released {
        function: crate::fixture::function("digits"),
        number: release_number(2),
        manifest,
        files: Default::default(),
        pins: Default::default(),
    };
    let error = catalog.change_tenant(&tenant(), None, &author(), |_| Ok(released.clone())).await.expect_err("full");
    assert!(matches!(&error, ChangeError::Store(StoreError::Full { .. })), "{error}");
}

/// The source cannot be a file on a disk that takes no more: it comes through a pipe.
async fn put_pipe(catalog: &Catalog, source: &Path, content: &[u8]) -> StoreError {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let _ = fs::remove_file(source);
    mknodat(CWD, source, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
    let (path, bytes) = (source.to_owned(), content.to_owned());
    let writer = thread::spawn(move || fs::write(path, bytes));
    let put = catalog.store().blobs(&tenant()).put(source, Digest::of(content), content.len() as u64).await;
    // The reader may have gone before the end.
    let _ = writer.join().expect("no panic");
    put.expect_err("full")
}

/// What a user without special rights meets: the superuser may write everywhere, but for a thread that gives this up.
fn without_rights<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    let thread = thread::spawn(move || {
        let mut sets = capabilities(None).expect("known");
        sets.effective -= CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
        set_capabilities(None, sets).expect("given up");
        // Threads that it starts to block have no more rights than it.
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
    });
    thread.join().expect("no panic")
}

fn set_writable(folder: &Path, writable: bool) {
    for entry in fs::read_dir(folder).expect("there").map(|entry| entry.expect("one").path()).filter(|path| path.is_dir()) {
        set_writable(&entry, writable);
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(if writable { 0o700 } else { 0o500 })).expect("changed");
}

#[test]
fn a_folder_that_may_not_be_written_to_is_told_by_its_path() {
    let root = tempfile::tempdir().expect("a folder");
    let path = root.path().join("store");
    fs::create_dir(&path).expect("made");
    set_writable(&path, false);
    let backend = Backend::Folder(path.clone());
    let error = without_rights(async move { backend.try_open(StoreOptions::default()).await.map(|_| ()) });
    let error = error.expect_err("it may not be written to");
    assert!(matches!(error, StoreError::Refused { .. }) && error.to_string().contains(path.to_str().expect("UTF-8")), "{error}");
    set_writable(&path, true);
    let below = Backend::Folder(path.join("a/b"));
    set_writable(&path, false);
    let error = without_rights(async move { below.try_open(StoreOptions::default()).await.map(|_| ()) });
    assert!(matches!(error, Err(StoreError::Refused { .. })), "{error:?}");
    set_writable(&path, true);
}

#[test]
fn a_folder_that_turns_read_only_is_read_on() {
    let root = tempfile::tempdir().expect("a folder");
    let path = root.path().join("store");
    let (backend, folder) = (Backend::Folder(path.clone()), path.clone());
    without_rights(async move {
        let catalog = backend.catalog().await;
        change(&catalog, key_added("a")).await;
        set_writable(&folder, false);
        let error = catalog.change_tenant(&tenant(), None, &author(), |_| Ok(key_added("b"))).await.expect_err("refused");
        assert!(matches!(&error, ChangeError::Store(StoreError::Refused { .. })), "{error}");
        assert!(error.to_string().contains(folder.to_str().expect("UTF-8")), "{error}");
        let source = tempfile::tempdir().expect("a folder");
        let put = catalog.store().blobs(&tenant()).put(&file(source.path(), "x", b"x"), Digest::of(b"x"), 1).await;
        assert!(matches!(put, Err(StoreError::Refused { .. })), "{put:?}");
        catalog.refresh().await.expect("read");
        assert_eq!(catalog.snapshot().tenants[&tenant()].revision.0, 1);
    });
    set_writable(&path, true);
}

#[tokio::test]
async fn a_folder_has_two_names_and_memory_one() {
    let root = tempfile::tempdir().expect("a folder");
    let path = root.path().join("a b/store");
    let url = format!("file://{}", path.to_str().expect("UTF-8").replace(' ', "%20"));
    let log = sandmill_catalog::store::Store::open(&url, StoreOptions::default()).await.expect("a store").tenant_log(&tenant());
    let head = log.append(&Default::default(), &crate::fixture::entry(key_added("a"))).await.expect("made");
    let again = Backend::Folder(path.clone()).open().await;
    assert_eq!(again.tenant_log(&tenant()).load().await.as_ref(), Ok(&head));
    assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o700);
    let memory = sandmill_catalog::store::Store::open("memory:", StoreOptions::default()).await.expect("a store");
    assert_eq!(memory.tenant_log(&tenant()).load().await, Ok(Default::default()));
}
