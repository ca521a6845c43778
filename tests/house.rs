//! The house's own test: who may import whom, read from the manifests under `host`. Knows no code but the first line of each
//! file.

use std::fs;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

/// Each room and the rooms that it may import. The rooms beside one another meet in the domain's ports alone.
const ROOMS: [(&str, &[&str]); 10] = [
    ("domain", &[]),
    ("protocol", &["domain"]),
    ("telemetry", &["domain"]),
    ("worker", &[]),
    ("sandbox", &["domain", "worker"]),
    ("engine", &["domain", "worker"]),
    ("catalog", &["domain"]),
    ("pipeline", &["domain", "protocol"]),
    ("edge", &["domain", "protocol", "telemetry"]),
    ("app", &["domain", "telemetry", "sandbox", "engine", "catalog", "pipeline", "edge"]),
];

/// Crates from outside, with all whose names begin alike (`ort` stands for `ort-sys` too), and the rooms that may know them.
const OUTSIDE: [(&str, &[&str]); 13] = [
    ("wasmtime", &["sandbox"]),
    ("ort", &["engine"]),
    ("nvml-wrapper", &["engine"]),
    ("object_store", &["catalog"]),
    ("reqwest", &["catalog"]),
    ("hyper", &["edge", "app", "sandbox"]),
    ("serde_json", &["protocol", "edge", "catalog", "app"]),
    ("jiter", &["protocol", "edge"]),
    ("toml", &["catalog"]),
    ("prometheus", &["telemetry"]),
    ("clap", &["app"]),
    ("anyhow", &["app"]),
    ("tokio", &["telemetry", "sandbox", "engine", "catalog", "pipeline", "edge", "app"]),
];

/// Where Rust files of ours lie.
const SOURCES: [&str; 5] = ["host", "guest-sdk", "plugins", "tests", "bench"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The crates that a table of dependencies names, by their own names where they are renamed.
fn names(dependencies: Option<&Value>) -> Vec<&str> {
    let entries = dependencies.and_then(Value::as_table).into_iter().flatten();
    entries.map(|(name, value)| value.get("package").and_then(Value::as_str).unwrap_or(name)).collect()
}

/// All that a manifest's code is built with, on every platform, and all that its tests add.
fn dependencies(manifest: &Table) -> (Vec<&str>, Vec<&str>) {
    let targets = manifest.get("target").and_then(Value::as_table).into_iter().flat_map(Table::values);
    let tables: Vec<&Table> = targets.filter_map(Value::as_table).chain([manifest]).collect();
    let all = |kind| tables.iter().flat_map(|table| names(table.get(kind))).collect::<Vec<_>>();
    ([all("dependencies"), all("build-dependencies")].concat(), all("dev-dependencies"))
}

/// What is wrong with a room's manifest. Tests may use any crate from outside, but no other room than the code may.
fn wrongs(room: &str, manifest: &str) -> Vec<String> {
    let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
        return vec![format!("`{room}` has no line in tests/house.rs")];
    };
    let manifest: Table = manifest.parse().unwrap_or_else(|error| panic!("host/{room}/Cargo.toml: {error}"));
    let (code, tests) = dependencies(&manifest);
    let rooms = code.iter().chain(&tests).filter_map(|name| name.strip_prefix("sandmill-"));
    let strangers = rooms.filter(|name| !allowed.contains(name)).map(|name| format!("`{room}` imports the room `{name}`"));
    let outsiders = code.iter().filter(|name| !may_know(room, name)).map(|name| format!("`{room}` imports `{name}`"));
    strangers.chain(outsiders).collect()
}

fn may_know(room: &str, dependency: &str) -> bool {
    let stands_for = |prefix| dependency.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
    OUTSIDE.iter().all(|(prefix, rooms)| !stands_for(prefix) || rooms.contains(&room))
}

#[test]
fn every_room_imports_only_what_it_may() {
    let rooms = fs::read_dir(root().join("host")).unwrap().map(|entry| entry.unwrap());
    let mut count = 0;
    for room in rooms.filter(|room| room.path().is_dir()) {
        let manifest = fs::read_to_string(room.path().join("Cargo.toml")).unwrap();
        assert_eq!(wrongs(room.file_name().to_str().unwrap(), &manifest), Vec::<String>::new());
        count += 1;
    }
    assert_eq!(count, ROOMS.len(), "a room of the table is not there");
}

#[test]
fn wrong_arrows_are_caught() {
    let wrong = [
        ("edge", "[dependencies]\nsandmill-engine = { workspace = true }", "`edge` imports the room `engine`"),
        ("engine", "[dependencies]\nsandmill-pipeline = { workspace = true }", "`engine` imports the room `pipeline`"),
        ("catalog", "[dev-dependencies]\nsandmill-sandbox = { workspace = true }", "`catalog` imports the room `sandbox`"),
        ("pipeline", "[dependencies]\nsandmill-telemetry = { workspace = true }", "`pipeline` imports the room `telemetry`"),
        ("app", "[dev-dependencies]\nsandmill-protocol = { workspace = true }", "`app` imports the room `protocol`"),
        ("sandbox", "[dependencies]\nserde_json = '1'", "`sandbox` imports `serde_json`"),
        ("edge", "[dependencies]\nobject_store = '0'", "`edge` imports `object_store`"),
        ("engine", "[dependencies]\nanyhow = '1'", "`engine` imports `anyhow`"),
        ("protocol", "[build-dependencies]\ntokio = '1'", "`protocol` imports `tokio`"),
        ("pipeline", "[target.'cfg(unix)'.dependencies]\nserde_json = '1'", "`pipeline` imports `serde_json`"),
        ("app", "[dependencies]\nruntime = { package = 'wasmtime', version = '48' }", "`app` imports `wasmtime`"),
        ("sandbox", "[dependencies]\nort-sys = '2'", "`sandbox` imports `ort-sys`"),
        ("attic", "", "`attic` has no line in tests/house.rs"),
    ];
    for (room, manifest, message) in wrong {
        assert_eq!(wrongs(room, manifest), [message], "{manifest}");
    }
    let right = "[dependencies]\nsandmill-domain = '0'\nwasmtime-wasi = '48'\n[dev-dependencies]\nserde_json = '1'";
    assert_eq!(wrongs("sandbox", right), Vec::<String>::new());
}

fn collect_sources(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the folder is readable") {
        let path = entry.expect("the folder is readable").path();
        if path.is_dir() && !path.ends_with("target") {
            collect_sources(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

#[test]
fn every_file_opens_with_its_page() {
    let mut files = Vec::new();
    SOURCES.iter().for_each(|folder| collect_sources(&root().join(folder), &mut files));
    assert!(files.len() > ROOMS.len(), "only {} files were found", files.len());
    let opens_without = |path: &&PathBuf| !fs::read_to_string(path).expect("a text").starts_with("//!");
    let without: Vec<_> = files.iter().filter(opens_without).collect();
    assert!(without.is_empty(), "these do not open with `//!`: {without:?}");
}

/// A plugin that was built against a released contract runs on every host that speaks it: what is released never changes. What is
/// new goes into a folder of its own.
#[test]
fn a_released_contract_is_frozen() {
    let read = |path: &str| fs::read_to_string(root().join(path)).expect("a text");
    let folder = fs::read_dir(root().join("wit/v0.1")).expect("a folder").count();
    assert_eq!(folder, 1, "a released folder has no new files");
    assert!(read("wit/v0.1/plugin.wit") == read("tests/golden/wit-v0.1.wit"), "wit/v0.1 is released and must not change");
}
