//! A host that serves a store, as the tests of releases use it: started, asked, killed, and started again. Knows no test.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde_json::Value;

use crate::harness::{Answer, Server, exchange, root, run};

/// The component that `sandmill build` makes of `tests/guests/release`.
static PLUGIN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (guest, file) = (root().join("tests/guests/release"), folder.path().join("plugin.wasm"));
    let built = run(&["build", guest.to_str().expect("UTF-8"), "-o", file.to_str().expect("UTF-8")]);
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    std::fs::read(file).expect("it was built")
});

/// Says which release answered.
pub(crate) fn plugin() -> &'static [u8] {
    &PLUGIN
}

/// What changes quickly and says which release it is.
pub(crate) fn manifest(release: u32) -> String {
    format!(
        "[model]\npath = 'model.onnx'\n[plugin]\npath = 'plugin.wasm'\n[config]\nrelease = '{release}'\n[sample]\nmethod = 'POST'\n"
    )
}

/// A function folder, as an archive.
pub(crate) fn archive(manifest: &str) -> Vec<u8> {
    let model = std::fs::read(root().join("host/engine/tests/models/passthrough.onnx")).expect("the model is there");
    pack(&[("function.toml", manifest.as_bytes()), ("model.onnx", &model), ("plugin.wasm", &PLUGIN)])
}

/// Files, as an archive.
pub(crate) fn pack(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        // As it is given: a builder would refuse some names.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        archive.append(&header, *content).expect("written");
    }
    archive.into_inner().expect("written")
}

/// A host over this store.
pub(crate) fn host(store: &Path) -> Server {
    configured(store, "")
}

/// The same with more of a configuration.
pub(crate) fn configured(store: &Path, config: &str) -> Server {
    let work: PathBuf = store.with_file_name("work");
    Server::configured(&format!("[store]\nlocation = {store:?}\nwork = {work:?}\npoll_ms = 200\n{config}"), &[])
}

/// Asks the control plane.
pub(crate) fn ask(server: &Server, method: &str, path: &str, body: &str) -> Answer {
    let headers: &[(&str, &str)] = if body.is_empty() { &[] } else { &[("content-type", "application/json")] };
    exchange(server.control, method, path, headers, body.as_bytes())
}

/// Sends an archive.
pub(crate) fn put(server: &Server, path: &str, archive: &[u8]) -> Answer {
    exchange(server.control, "PUT", path, &[("content-type", "application/x-tar")], archive)
}

/// Deploys a release of `digits`, which must succeed.
pub(crate) fn deploy(server: &Server, path: &str, release: u32) -> Value {
    let answer = put(server, path, &archive(&manifest(release)));
    assert!(matches!(answer.status, 200 | 201), "{answer:?}\n{}", server.log());
    answer.json()
}
