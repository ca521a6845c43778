//! A whole store, as this code writes it, bit for bit: a record of each kind, checkpoints, and what the store says of itself.
//!
//! `golden/v1` is what hosts have on their disks. It is never changed: a new schema gets a folder of its own. It was written with
//! `SANDMILL_GOLDEN=write cargo test -p sandmill-catalog --test store golden`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{env, fs};

use futures_util::TryStreamExt;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use sandmill_catalog::Digest;
use sandmill_catalog::store::{
    Catalog, Entry, Head, Id, Key, Log, Pin, State, Store, StoreOptions, SystemChange, SystemState, TenantChange, TenantState,
};
use sandmill_domain::Scope;
use sandmill_domain::control::Quotas;

use crate::fixture::{Backend, author_at, blob, function, key, label, release_number, tenant};

/// The last record of the tenant's log is in a checkpoint.
const CHECKPOINT_EVERY: u64 = 5;

fn tenant_changes() -> Vec<TenantChange> {
    let (name, version) = (label("resize"), label("1.2.0"));
    let (model, one) = (label("digits_v2"), label("1"));
    let pins = BTreeSet::from([
        Pin::Plugin { name: name.clone(), version: version.clone() },
        Pin::Model { name: model.clone(), version: one.clone() },
    ]);
    // As `sandmill_domain::control` has them.
    let about = concat!(
        r#"{"shape":["preprocess"],"init":"snapshot","why_no_init":null,"grants":["http"],"#,
        r#""imports":["sandmill:plugin/log@0.1.0"],"exports":["sandmill:plugin/preprocess@0.1.0"]}"#
    );
    let about = about.to_owned();
    let of_model = concat!(
        r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[-1],"axes":["n"]}],"outputs":[],"tensors_left_out":0,"#,
        r#""measured":{"load_ms":1.5,"run_ms":0.25,"memory_bytes":7,"batch_rows_max":1,"why_no_batches":"no"}}"#
    );
    let of_model = of_model.to_owned();
    let files = BTreeMap::from([("model.onnx".to_owned(), blob(2)), ("model.onnx_data".to_owned(), blob(3))]);
    let release = |number, name: &str, pins: &BTreeSet<Pin>| TenantChange::Released {
        function: function(name),
        number: release_number(number),
        manifest: "name = \"digits\"\n[model]\npath = \"model.onnx\"\n".into(),
        files: BTreeMap::from([("data/labels.txt".to_owned(), blob(3 + u128::from(number)))]),
        pins: pins.clone(),
    };
    let scopes = BTreeSet::from([Scope::Invoke, Scope::Deploy, Scope::Admin]);
    let admin = Key { scopes, expires_at_ms: Some(1_900_000_000_000), ..key("root") };
    vec![
        TenantChange::PluginAdded { name: name.clone(), version: version.clone(), blob: blob(1), about: about.clone() },
        TenantChange::PluginAdded { name: name.clone(), version: label("1.1.0"), blob: blob(9), about: "{}".into() },
        TenantChange::ModelAdded { name: model.clone(), version: one, files: files.clone(), about: of_model },
        TenantChange::ModelAdded { name: model.clone(), version: label("2"), files, about: "null".into() },
        release(1, "digits", &pins),
        release(2, "digits", &BTreeSet::new()),
        TenantChange::RolledBack { function: function("digits"), to: release_number(1) },
        TenantChange::PluginRemoved { name, version: label("1.1.0") },
        TenantChange::ModelRemoved { name: model, version: label("2") },
        TenantChange::KeyAdded(key("ci")),
        TenantChange::KeyAdded(admin),
        TenantChange::KeyRevoked { id: label("ci") },
        release(1, "angle", &BTreeSet::new()),
        TenantChange::FunctionDeleted { function: function("angle") },
        TenantChange::Condemned { places: [blob(9).place, blob(77).place].into() },
    ]
}

fn system_changes() -> Vec<SystemChange> {
    let quotas = Quotas {
        requests_per_second_max: Some(1000),
        concurrency_max: Some(64),
        instances_max: Some(128),
        guest_memory_bytes_max: Some(1 << 30),
        functions_max: Some(10),
        stored_bytes_max: Some(10 << 30),
        ..Quotas::default()
    };
    let other = sandmill_domain::TenantId::local();
    vec![
        SystemChange::TenantAdded { tenant: tenant(), weight: 1, quotas: Quotas::default() },
        SystemChange::TenantAdded { tenant: other.clone(), weight: 2, quotas: Quotas { functions_max: Some(1), ..quotas } },
        SystemChange::TenantChanged { tenant: tenant(), weight: 3, quotas },
        SystemChange::TenantRemoved { tenant: other },
        SystemChange::KeyAdded(key("operator")),
        SystemChange::KeyAdded(key("spare")),
        SystemChange::KeyRevoked { id: label("spare") },
    ]
}

async fn fill<S: State>(log: &Log<S>, changes: Vec<S::Change>) -> Head<S> {
    let mut head = Head::default();
    for (number, change) in (1_u64..).zip(changes) {
        let id = Id::of(u128::from(number) << 64 | 0xfeed);
        let entry = Entry { id, ..Entry::new(&author_at(1_700_000_000_000 + number), change) };
        head = log.append(&head, &entry).await.expect("it follows");
    }
    head
}

async fn opened(memory: &Arc<InMemory>) -> Store {
    let options = StoreOptions { checkpoint_every: CHECKPOINT_EVERY, ..StoreOptions::default() };
    Backend::Memory(memory.clone()).try_open(options).await.expect("a store")
}

async fn filled(memory: &Arc<InMemory>) -> (Head<SystemState>, Head<TenantState>) {
    let store = opened(memory).await;
    (fill(&store.system_log(), system_changes()).await, fill(&store.tenant_log(&tenant()), tenant_changes()).await)
}

/// All objects, by their names.
async fn objects(memory: &InMemory) -> BTreeMap<String, String> {
    let listed: Vec<_> = memory.list(None).try_collect().await.expect("listed");
    let mut objects = BTreeMap::new();
    for object in listed {
        let bytes = memory.get(&object.location).await.expect("there").bytes().await.expect("read");
        objects.insert(object.location.to_string(), String::from_utf8(bytes.into()).expect("UTF-8"));
    }
    objects
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/store/golden/v1")
}

fn golden(folder: &Path, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("one").path();
        if path.is_dir() {
            golden(&path, found);
        } else {
            let name = path.strip_prefix(root()).expect("below").to_str().expect("UTF-8").to_owned();
            found.insert(name, fs::read_to_string(&path).expect("a text"));
        }
    }
}

fn write(objects: &BTreeMap<String, String>) {
    for (name, text) in objects {
        let path = root().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    }
}

#[tokio::test(start_paused = true)]
async fn todays_code_writes_what_hosts_have() {
    let memory = Arc::<InMemory>::default();
    filled(&memory).await;
    let written = objects(&memory).await;
    if env::var("SANDMILL_GOLDEN").is_ok_and(|value| value == "write") {
        write(&written);
    }
    let mut golden_files = BTreeMap::new();
    golden(&root(), &mut golden_files);
    assert_eq!(written.keys().collect::<Vec<_>>(), golden_files.keys().collect::<Vec<_>>());
    for (name, text) in &written {
        assert_eq!(*text, golden_files[name], "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn todays_code_reads_what_hosts_have() {
    let (system, acme) = filled(&Arc::default()).await;
    let mut golden_files = BTreeMap::new();
    golden(&root(), &mut golden_files);
    let memory = Arc::<InMemory>::default();
    for (name, text) in golden_files {
        memory.put(&name.into(), text.into()).await.expect("written");
    }
    let store = opened(&memory).await;
    assert_eq!(store.system_log().replay().await.as_ref(), Ok(&system));
    assert_eq!(store.tenant_log(&tenant()).replay().await.as_ref(), Ok(&acme));
    let catalog = Catalog::load(store).await.expect("loaded");
    assert_eq!((&catalog.snapshot().system, &catalog.snapshot().tenants[&tenant()]), (&system, &acme));
    let live: BTreeSet<_> = acme.state.live_blobs().map(|blob| blob.sha256).collect();
    assert_eq!(live, [1_u128, 2, 3, 4, 5].map(|number| Digest::of(&number.to_be_bytes())).into());
}
