//! From nothing to a served function and back, as a person types it: every command of the control plane, once in words and once for a
//! program. One story, since each step needs the one before.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Server, exchange, root, sandmill};

/// A person at a terminal, with a home.
pub(crate) struct Person {
    home: TempDir,
}

impl Person {
    pub(crate) fn new() -> Self {
        Self { home: TempDir::new().expect("a temporary folder") }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub(crate) fn profiles(&self) -> PathBuf {
        self.path("config/sandmill/profiles.toml")
    }

    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = sandmill();
        command.env("XDG_CONFIG_HOME", self.path("config")).env("XDG_DATA_HOME", self.path("data")).args(line.split_whitespace());
        command
    }

    /// Types a line without spaces in its words.
    pub(crate) fn types(&self, line: &str) -> Output {
        self.command(line).output().expect("the binary runs")
    }

    /// It is done, and this is said.
    pub(crate) fn does(&self, line: &str) -> String {
        let output = self.types(line);
        assert_eq!(output.status.code(), Some(0), "{line}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// It is done, and this is told to a program.
    pub(crate) fn json(&self, line: &str) -> Value {
        let said = self.does(&format!("{line} --json"));
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{line}: no JSON ({error}): {said}"))
    }

    /// It fails with this status, in these words, and is told to a program as well; no key is in any of it.
    pub(crate) fn fails(&self, status: i32, line: &str, words: &[&str]) {
        let output = self.types(line);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{line}: {error}");
        for word in words {
            assert!(error.contains(word), "{line}: `{word}` is not said: {error}");
        }
        assert!(!error.contains("panicked") && !shows_a_key(&error), "{error}");
        let output = self.types(&format!("{line} --json"));
        assert_eq!(output.status.code(), Some(status), "{line}");
        let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{line}: no JSON: {error}"));
        assert!(told["detail"].is_string() || told["error"].is_string(), "{line}: {told}");
    }

    /// A key in a file.
    pub(crate) fn keep(&self, name: &str, secret: &Value) -> String {
        let path = self.path(name);
        std::fs::write(&path, secret.as_str().expect("a secret")).expect("written");
        path.to_str().expect("UTF-8").to_owned()
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// Whether a whole key is in it, or the beginning of one.
fn shows_a_key(text: &str) -> bool {
    text.split("sm_").skip(1).any(|rest| rest.starts_with(|letter: char| letter.is_ascii_hexdigit()))
}

/// Whether each of them is said.
#[track_caller]
pub(crate) fn says(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "`{word}` is not said: {said}");
    }
}

/// Cargo, with the versions that the workspace has, and its own folder for what it makes of new projects.
fn cargo_like(command: &mut Command) -> &mut Command {
    command.env("CARGO_TARGET_DIR", root().join("target/test-projects")).env("CARGO_NET_OFFLINE", "true")
}

/// A new project in Rust, tested, built and checked.
fn begin(person: &Person, name: &str) -> PathBuf {
    let folder = person.path(name);
    let shown = folder.to_str().expect("UTF-8");
    says(&person.does(&format!("new {shown}")), &["sandmill build", "sandmill check", name]);
    person.fails(1, &format!("new {shown}"), &["is there already"]);
    std::fs::copy(root().join("Cargo.lock"), folder.join("Cargo.lock")).expect("copied");
    let mut cargo = Command::new(env!("CARGO"));
    let tested = cargo_like(cargo.args(["test", "--quiet", "--release"]).current_dir(&folder)).output().expect("cargo runs");
    assert!(tested.status.success(), "{}{}", text(&tested.stdout), text(&tested.stderr));
    let built = cargo_like(&mut person.command(&format!("build {shown} --json"))).output().expect("it runs");
    assert!(built.status.success(), "{}", text(&built.stderr));
    let built: Value = serde_json::from_slice(&built.stdout).expect("JSON");
    assert_eq!(built["path"], folder.join("plugin.wasm").to_str().expect("UTF-8"));
    says(&person.does(&format!("check {shown}")), &["is good", "sample: 200"]);
    assert_eq!(person.json(&format!("check {shown}"))["functions"][0]["function"], name);
    folder
}

/// The operator's part: a store, a server, a tenant's key in a profile.
fn open(person: &Person) -> (Server, String) {
    let made = person.json("init");
    let store = made["store"].as_str().expect("a place").to_owned();
    assert_eq!(store, person.path("data/sandmill/store").to_str().expect("UTF-8"));
    person.fails(1, "init", &["has an operator's key already", "keys add"]);
    let config = format!("[store]\nwork = {:?}\npoll_ms = 50\n", person.path("work"));
    let server = Server::of_store(&config, &store);
    let (control, functions) = (server.control, server.address);
    person.does(&format!("profile set default --control http://{control} --functions http://{functions}"));
    says(&person.does("whoami"), &[made["key"].as_str().expect("an id"), "an operator's: admin"]);
    assert_eq!(person.json("whoami")["tenant"], Value::Null);
    (server, made["secret"].as_str().expect("a secret").to_owned())
}

fn admit(person: &Person, server: &Server) -> String {
    says(&person.does("tenants add acme --weight 2 --quota functions_max=1 --quota concurrency_max=9"), &["`acme`: weight 2"]);
    let tenant = person.json("tenants set acme --quota functions_max=3");
    assert_eq!((&tenant["weight"], &tenant["quotas"]), (&1.into(), &serde_json::json!({ "functions_max": 3 })));
    says(&person.does("tenants list"), &["acme", "functions_max=3", "default"]);
    assert_eq!(person.json("tenants list")["tenants"].as_array().map(Vec::len), Some(2));
    let key = person.json("keys add --tenant acme --scope deploy --scope invoke --label laptop --expires-in 30d");
    says(&person.does("keys list --tenant acme"), &["laptop", "invoke, deploy"]);
    says(&person.does("keys list --operators"), &["the first operator's", "never"]);
    let file = person.keep("key", &key["secret"]);
    let (control, functions) = (server.control, server.address);
    let set = format!("profile set acme --control http://{control} --functions http://{functions} --key-file {file}");
    assert_eq!(person.json(&set)["key"], key["key"]);
    let listed = person.does("profile list");
    says(&listed, &["acme", "default", key["key"].as_str().expect("an id")]);
    assert!(!shows_a_key(&listed), "{listed}");
    key["key"].as_str().expect("an id").to_owned()
}

fn release(person: &Person, folder: &Path) {
    let shown = folder.to_str().expect("UTF-8");
    let sample = format!("{shown}/sample.json");
    let dry = person.json(&format!("deploy {shown} --dry-run --profile acme"));
    assert_eq!((&dry["dry_run"], &dry["release"]), (&true.into(), &1.into()));
    says(&person.does("functions --profile acme"), &["no functions yet"]);
    let said = person.does(&format!("deploy {shown} --yes --profile acme"));
    says(&said, &["a new function", "plugin.wasm: new", "  load", "release 1 of `spam` answers", "try: curl", "$SANDMILL_KEY"]);
    assert!(!shows_a_key(&said), "{said}");
    says(&person.does(&format!("deploy {shown} --profile acme")), &["nothing to deploy: release 1"]);
    assert_eq!(person.json(&format!("deploy {shown} --profile acme"))["unchanged"], true);
    says(&person.does(&format!("invoke spam {sample} --profile acme")), &["\"spam\":true"]);
    // An operator says whose.
    says(&person.does(&format!("invoke spam {sample} --tenant acme")), &["\"spam\":true"]);
    let manifest = std::fs::read_to_string(folder.join("function.toml")).expect("read");
    std::fs::write(folder.join("function.toml"), manifest.replace("\"1MiB\"", "\"2MiB\"")).expect("written");
    let said = person.does(&format!("deploy {shown} --profile acme"));
    says(&said, &["after release 1", "-body_bytes_max = \"1MiB\"", "+body_bytes_max = \"2MiB\"", "release 2 of `spam` answers"]);
    assert!(!said.contains("plugin.wasm"), "{said}");
}

fn go_back(person: &Person) {
    assert_eq!(person.json("functions --profile acme")["functions"][0]["release"], 2);
    says(&person.does("releases spam --profile acme"), &["1 ", "2 ", "answers", "loaded"]);
    assert_eq!(person.json("releases spam --profile acme")["releases"].as_array().map(Vec::len), Some(2));
    says(&person.does("difference spam 1 2 --profile acme"), &["function.toml", "+body_bytes_max = \"2MiB\""]);
    says(&person.does("difference spam 1 1 --profile acme"), &["are the same"]);
    assert_eq!(person.json("difference spam 1 2 --profile acme")["files"], serde_json::json!({}));
    says(&person.does("rollback spam --yes --profile acme"), &["release 1 of `spam` answers again"]);
    assert_eq!(person.json("rollback spam --to 2 --profile acme")["release"], 2);
    person.fails(3, "rollback spam --to 7 --profile acme", &["404", "release 7"]);
    says(&person.does("audit --tenant acme"), &["released", "rolled_back", "spam 1", "127.0.0.1"]);
    let audit = person.json("audit --tenant acme --after 3");
    assert_eq!((&audit["entries"][0]["what"], &audit["entries"][0]["of"]), (&"rolled_back".into(), &"spam 1".into()));
    let used = person.does("usage --tenant acme --last 1h");
    says(&used, &["requests", "spam"]);
    assert!(person.json("usage --profile acme")["hours"][0]["functions"]["spam"]["requests"].as_u64() >= Some(1), "{used}");
    says(&person.does("usage --tenant default"), &["nothing was used"]);
    says(&person.does("logs spam --tenant acme"), &["has said nothing"]);
    says(&person.does("audit --operators"), &["tenant_added", "init"]);
    person.fails(3, "audit --profile acme", &["403", "admin", "whoami"]);
}

/// The same plugin and model, uploaded once, and a function that names them.
fn share(person: &Person, folder: &Path) {
    let shown = folder.to_str().expect("UTF-8");
    says(&person.does("plugins list --profile acme"), &["no plugins yet", "plugins add"]);
    let said = person.does(&format!("plugins add spam@1 {shown}/plugin.wasm --profile acme"));
    says(&said, &["plugin `spam@1`: preprocess and postprocess", "KiB"]);
    let again = person.json(&format!("plugins add spam@1 {shown}/plugin.wasm --profile acme"));
    assert_eq!((&again["added"], &again["shape"][0]), (&false.into(), &"preprocess".into()));
    says(
        &person.does(&format!("models add spam@1 {shown}/model.onnx --profile acme")),
        &["model `spam@1`: 1 file", "takes ", "a run"],
    );
    let manifest = std::fs::read_to_string(folder.join("function.toml")).expect("read");
    let named =
        manifest.replace("path = \"model.onnx\"", "from = \"spam@1\"").replace("path = \"plugin.wasm\"", "from = \"spam@1\"");
    assert_eq!(named.matches("from =").count(), 2, "{named}");
    std::fs::write(folder.join("function.toml"), &named).expect("written");
    // What was sent before is named now.
    let said = person.does(&format!("deploy {shown} --profile acme --yes"));
    says(&said, &["+from = \"spam@1\"", "plugin.wasm: gone", "release 3 of `spam` answers"]);
    says(&person.does(&format!("deploy {shown} --profile acme")), &["nothing to deploy: release 3"]);
    let sample = format!("{shown}/sample.json");
    says(&person.does(&format!("invoke spam {sample} --profile acme")), &["\"spam\":true"]);
    says(&person.does("models show spam --profile acme"), &["model `spam@1`", "used by `spam`"]);
    says(&person.does("plugins list --profile acme"), &["spam@1"]);
    assert_eq!(person.json("models list --profile acme")["models"][0]["model"], "spam");
    person.fails(3, "plugins remove spam@1 --yes --profile acme", &["409", "release 3 of `spam` is made of it"]);
    person.fails(3, "models show ham --profile acme", &["404", "there are `spam`"]);
    person.fails(1, "plugins add spam@2 nowhere.wasm --profile acme", &["cannot read nowhere.wasm"]);
    person.fails(3, &format!("plugins add spam@1 {shown}/sample.json --profile acme"), &["409", "other bytes"]);
    std::fs::write(folder.join("function.toml"), manifest).expect("written");
}

#[test]
fn from_nothing_to_an_answer_and_back() {
    let person = Person::new();
    let (mut server, secret) = open(&person);
    let key = admit(&person, &server);
    let folder = begin(&person, "spam");
    release(&person, &folder);
    go_back(&person);
    share(&person, &folder);

    says(&person.does("delete spam --yes --profile acme"), &["`spam` is deleted"]);
    person.fails(3, "invoke spam --profile acme", &["404", "spam"]);
    assert_eq!(person.json(&format!("keys revoke {key} --tenant acme")), serde_json::json!({}));
    person.fails(3, "functions --profile acme", &["401", "not known", "profile set"]);
    assert_eq!(person.json("tenants remove acme --yes"), serde_json::json!({}));
    says(&person.does("profile remove acme"), &["is gone"]);
    let ready = exchange(server.control, "GET", "/v2/health/ready", &[], b"").status;
    server.terminate();
    assert_eq!((ready, server.wait().code()), (200, Some(0)), "{}", server.log());
    person.fails(4, "functions", &["cannot reach http://127.0.0.1:", "is the server running"]);
    says(&person.does("doctor"), &["the host's own log: good", "nothing is wrong"]);
    assert_eq!(person.json("doctor")["clean"], true);
    let log = server.log();
    assert!(!log.contains(&secret) && !shows_a_key(&log), "{log}");
}
