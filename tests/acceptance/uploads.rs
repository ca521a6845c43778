//! Plugins and models that are uploaded once and named by functions: tried before they are kept, never changed, kept for as long as a
//! release is made of them, and nobody's but their tenant's.

use serde_json::{Value, json};

use crate::guest;
use crate::harness::{Answer, Server, Workshop, exchange, root, run};
use crate::hostile_guests::{ALL, Outcome};
use crate::store::{archive, ask, host, manifest, pack, plugin, put};
use crate::tenants::Town;

const WASM: &str = "application/wasm";
const ONNX: &str = "application/octet-stream";
const TOML: &str = "application/toml";
const TAR: &str = "application/x-tar";

fn send(server: &Server, path: &str, kind: &str, body: &[u8]) -> Answer {
    exchange(server.control, "PUT", path, &[("content-type", kind)], body)
}

/// Gives `-x` for `x`.
fn negate() -> Vec<u8> {
    std::fs::read(root().join("host/engine/tests/models/passthrough.onnx")).expect("the model is there")
}

/// A component whose `init` fails unless it is given a setting.
fn particular() -> Vec<u8> {
    let init = guest::init("(if (i32.eqz (local.get 1)) (then (unreachable)))");
    let answer = guest::preprocess("(call $answer (i32.const 200) (i32.const 104) (i32.const 1))");
    guest::component("preprocessor-with-init", &(init + &answer))
}

/// Of uploads alone.
fn named(release: u32, plugin: &str, model: &str) -> String {
    manifest(release)
        .replace("path = 'model.onnx'", &format!("from = '{model}'"))
        .replace("path = 'plugin.wasm'", &format!("from = '{plugin}'"))
}

fn detail(answer: &Answer) -> String {
    answer.json()["detail"].as_str().expect("a problem").to_owned()
}

/// Not what nobody may see: where the host keeps its files.
fn refused(answer: &Answer, status: u16, step: &str, words: &str) {
    let problem = answer.json();
    assert_eq!((answer.status, &problem["step"]), (status, &json!(step)), "{problem}");
    let detail = detail(answer);
    assert!(detail.contains(words), "{words:?} is not in {detail}");
    assert!(!detail.contains("/work") && !detail.contains("/tmp") && !detail.contains("host-"), "the host's own paths: {detail}");
    assert!(!detail.contains(|letter: char| letter.is_control() && letter != '\n'), "{detail:?}");
}

/// A host with version 1 of the plugin and the model that functions below are made of.
fn stocked(shop: &Workshop) -> Server {
    let server = host(&shop.path().join("store"));
    let added = send(&server, "/v1/plugins/echo/versions/1", WASM, plugin());
    assert_eq!(added.status, 201, "{added:?}\n{}", server.log());
    let added = send(&server, "/v1/models/negate/versions/1", ONNX, &negate());
    assert_eq!(added.status, 201, "{added:?}\n{}", server.log());
    server
}

#[test]
fn what_is_uploaded_is_told_and_functions_are_made_of_it_alone() {
    let shop = Workshop::new();
    let server = stocked(&shop);
    let known = ask(&server, "GET", "/v1/plugins/echo", "").json()["versions"][0].clone();
    assert_eq!(known["shape"], json!(["preprocess", "postprocess"]), "{known}");
    assert_eq!((&known["init"], &known["used_by"]), (&json!("snapshot"), &json!([])), "{known}");
    assert_eq!(known["bytes"], plugin().len());
    let imports = known["imports"].as_array().expect("a list");
    assert!(imports.contains(&json!("sandmill:plugin/config@0.1.0")), "{known}");
    let known = ask(&server, "GET", "/v1/models/negate", "").json()["versions"][0].clone();
    let tensor = json!({ "name": "x", "datatype": "FP32", "shape": [-1], "axes": ["n"] });
    assert_eq!(known["inputs"], json!([tensor]), "{known}");
    assert_eq!(known["outputs"].as_array().map(Vec::len), Some(3), "{known}");
    assert!(
        known["measured"]["run_ms"].as_f64() > Some(0.0) && known["files"]["model.onnx"]["bytes"] == negate().len(),
        "{known}"
    );
    // A manifest alone, a folder that brings its own plugin, and one by the digest.
    let deployed = send(&server, "/v1/functions/echo", TOML, named(1, "echo@1", "negate@1").as_bytes());
    assert_eq!(deployed.status, 201, "{deployed:?}\n{}", server.log());
    assert_eq!((&deployed.json()["release"], &deployed.json()["sample"]), (&json!(1), &json!(200)));
    assert_eq!(server.post("/fn/echo", "").text(), "1 1");
    let half = manifest(2).replace("path = 'model.onnx'", "from = 'negate@1'");
    let deployed = put(&server, "/v1/functions/half", &pack(&[("function.toml", half.as_bytes()), ("plugin.wasm", plugin())]));
    assert_eq!(deployed.status, 201, "{deployed:?}");
    let sha256 = known["files"]["model.onnx"]["sha256"].as_str().expect("a digest");
    let deployed = send(&server, "/v1/functions/digest", TOML, named(3, "echo@1", &format!("sha256:{sha256}")).as_bytes());
    assert_eq!(deployed.status, 201, "{deployed:?}");
    assert_eq!((server.post("/fn/half", "").text(), server.post("/fn/digest", "").text()), ("2 2".into(), "3 3".into()));
    assert_eq!(blobs(&shop), 2, "no second copy");
    // Another host finds all of it.
    drop(server);
    let server = host(&shop.path().join("store"));
    for (function, release) in [("echo", 1), ("half", 2), ("digest", 3)] {
        assert_eq!(server.post(&format!("/fn/{function}"), "").text(), format!("{release} {release}"), "{}", server.log());
    }
    let used = ask(&server, "GET", "/v1/plugins/echo", "").json()["versions"][0]["used_by"].clone();
    assert_eq!(used, json!(["digest", "echo"]), "of bytes that `half` brought itself it names no version");
    assert_eq!(ask(&server, "GET", "/v1/models/negate", "").json()["versions"][0]["used_by"], json!(["echo", "half"]));
    let audit = ask(&server, "GET", "/v1/audit", "").json();
    let what = |at: usize| (audit["entries"][at]["what"].clone(), audit["entries"][at]["of"].clone());
    assert_eq!(what(0), (json!("plugin_added"), json!("echo 1")), "{audit}");
    assert_eq!(what(1), (json!("model_added"), json!("negate 1")), "{audit}");
}

/// The files of all uploads in the store.
fn blobs(shop: &Workshop) -> usize {
    fn count(folder: &std::path::Path) -> usize {
        let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
        entries.map(|path| if path.is_dir() { count(&path) } else { usize::from(is_blob(&path)) }).sum()
    }
    fn is_blob(path: &std::path::Path) -> bool {
        path.components().any(|part| part.as_os_str() == "blobs")
    }
    count(&shop.path().join("store"))
}

#[test]
fn a_version_is_never_changed_and_stays_while_a_release_is_made_of_it() {
    let shop = Workshop::new();
    let server = stocked(&shop);
    let revision = |server: &Server| ask(server, "GET", "/v1/plugins", "").header("etag").expect("a revision").to_owned();
    let before = revision(&server);
    let [plugin_path, model_path] = ["/v1/plugins/echo/versions/1", "/v1/models/negate/versions/1"];
    for (path, kind, body) in [(plugin_path, WASM, plugin().to_vec()), (model_path, ONNX, negate())] {
        let again = send(&server, path, kind, &body);
        assert_eq!((again.status, &again.json()["added"]), (200, &json!(false)), "{again:?}");
    }
    let symbols = std::fs::read(root().join("host/engine/tests/models/symbols.onnx")).expect("the model is there");
    for (path, kind, body) in [(plugin_path, WASM, particular()), (model_path, ONNX, symbols)] {
        refused(&send(&server, path, kind, &body), 409, "read", "other bytes");
    }
    assert_eq!(revision(&server), before, "nothing has changed");
    // Another version is compared with the one before.
    let second = send(&server, "/v1/plugins/echo/versions/2.0-rc.1", WASM, &particular()).json();
    assert_eq!((&second["init"], &second["difference"]["since"]), (&json!("failed"), &json!("1")), "{second}");
    let differs = |what: &str| second["difference"][what].clone();
    assert_eq!((differs("exports_came"), differs("imports_came")), (json!([]), json!([])), "{second}");
    assert_eq!(differs("exports_went"), json!(["sandmill:plugin/postprocess@0.1.0"]), "{second}");
    assert_eq!(differs("imports_went"), json!(["sandmill:plugin/log@0.1.0", "sandmill:plugin/config@0.1.0"]), "{second}");
    assert!(second["why_no_init"].as_str().is_some_and(|why| why.contains("unreachable")), "{second}");
    // What `init` lacked a function gives it.
    let particular = "[plugin]\nfrom = 'echo@2.0-rc.1'\n[config]\na = 'b'\n";
    assert_eq!(send(&server, "/v1/functions/particular", TOML, particular.as_bytes()).status, 201);
    assert_eq!(server.post("/fn/particular", "").text(), "x");
    refused(&send(&server, "/v1/functions/bare", TOML, particular.replace("a = 'b'", "").as_bytes()), 422, "load", "init failed");
    // Three releases, of which the first is kept; then it is not.
    for release in 1..=3 {
        let (plugin, model) = if release == 1 { ("echo@1", "negate@1") } else { ("echo@1", "negate@2") };
        if release == 2 {
            assert_eq!(send(&server, "/v1/models/negate/versions/2", ONNX, &negate()).status, 201, "the same bytes");
        }
        let deployed = send(&server, "/v1/functions/echo", TOML, named(release, plugin, model).as_bytes());
        assert_eq!(deployed.json()["release"], release, "{deployed:?}");
    }
    let kept = ask(&server, "DELETE", model_path, "");
    assert_eq!((kept.status, detail(&kept).as_str()), (409, "model `negate` 1 is in use: release 1 of `echo` is made of it"));
    assert_eq!(send(&server, "/v1/functions/echo", TOML, named(4, "echo@1", "negate@2").as_bytes()).status, 200);
    assert_eq!(ask(&server, "DELETE", model_path, "").status, 204);
    assert_eq!(ask(&server, "DELETE", model_path, "").status, 404);
    assert_eq!(ask(&server, "DELETE", plugin_path, "").status, 409);
    assert_eq!(ask(&server, "POST", "/v1/functions/echo/rollback", "").status, 200);
    assert_eq!(server.post("/fn/echo", "").text(), "3 3");
    assert_eq!(ask(&server, "DELETE", "/v1/functions/echo", "").status, 204);
    assert_eq!(ask(&server, "DELETE", plugin_path, "").status, 204);
    assert_eq!(send(&server, plugin_path, WASM, plugin()).status, 201, "its name is free");
}

#[test]
fn a_version_that_is_not_there_is_told_with_those_that_are() {
    let shop = Workshop::new();
    let server = stocked(&shop);
    assert_eq!(send(&server, "/v1/models/negate/versions/1.1", ONNX, &negate()).status, 201);
    let cases = [
        (named(1, "echo@1", "negate@2"), "function.toml:2: model.from: no model `negate@2`: there are `negate@1`, `negate@1.1`"),
        (named(1, "echo@2", "negate@1"), "function.toml:4: plugin.from: no plugin `echo@2`: there are `echo@1`"),
        (named(1, "negate@1", "negate@1"), "function.toml:4: plugin.from: no plugin `negate@1`: there are `echo`"),
        (
            named(1, "echo@1", &format!("sha256:{}", "0".repeat(64))),
            "function.toml:2: model.from: the tenant has no upload with this SHA-256",
        ),
        (named(1, "echo", "negate@1"), "function.toml:4: plugin.from: expected `name@version`"),
        (named(1, "echo@1", "negate@1").replace("[plugin]", "[plugin]\npath = 'x'"), "exclude each other"),
        (named(1, "echo@1", "negate@1").replace("[plugin]", "assets = ['.from/models/negate@1/labels.txt']\n[plugin]"), "assets"),
        ("nmae = 'echo'".to_owned(), "function.toml:1: nmae: unknown key"),
    ];
    for (manifest, words) in cases {
        refused(&send(&server, "/v1/functions/echo", TOML, manifest.as_bytes()), 422, "read", words);
    }
    let own = pack(&[("function.toml", named(1, "echo@1", "negate@1").as_bytes()), (".from/models/negate@1/model.onnx", b"x")]);
    refused(&put(&server, "/v1/functions/echo", &own), 422, "read", ".from: is where what `from` names is put");
    assert_eq!(ask(&server, "GET", "/v1/functions", "").json()["functions"], json!([]));
    assert_eq!(ask(&server, "GET", "/v1/plugins/none", "").status, 404);
    assert_eq!(ask(&server, "DELETE", "/v1/models/none/versions/1", "").status, 404);
    // A folder of one's own has no uploads.
    let folder = shop.function("echo", &named(1, "echo@1", "negate@1"), None);
    let checked = run(&["check", folder.to_str().expect("UTF-8")]);
    let said = String::from_utf8(checked.stderr).expect("a text");
    assert!(!checked.status.success() && said.contains("function.toml:2: model.from: it names a model"), "{said}");
}

#[test]
fn a_model_brings_what_belongs_to_it() {
    let shop = Workshop::new();
    let server = host(&shop.path().join("store"));
    let path = "/v1/models/negate/versions/1";
    let whole = pack(&[("model.onnx", &negate()), ("data/labels.txt", b"a b")]);
    let added = send(&server, path, TAR, &whole);
    assert_eq!(added.status, 201, "{added:?}");
    let files = added.json()["files"].as_object().expect("files").keys().cloned().collect::<Vec<_>>();
    assert_eq!(files, ["data/labels.txt", "model.onnx"]);
    assert_eq!(send(&server, path, TAR, &whole).status, 200);
    refused(&send(&server, path, ONNX, &negate()), 409, "read", "other bytes");
    refused(
        &send(&server, path, TAR, &pack(&[("model.onnx", &negate()), ("data/labels.txt", b"a c")])),
        409,
        "read",
        "other bytes",
    );
    // An asset of the function's.
    let answer = guest::component(
        "preprocessor-with-init",
        &(guest::init("(i32.store (i32.const 520) (i32.load (i32.load (i32.add (local.get 2) (i32.const 8)))))")
            + &guest::preprocess("(call $answer (i32.const 200) (i32.const 520) (i32.const 3))")),
    );
    let manifest = "assets = ['.from/models/negate@1/data/labels.txt']\n[model]\nfrom = 'negate@1'\n[plugin]\npath = 'p'\n";
    let deployed = put(&server, "/v1/functions/labels", &pack(&[("function.toml", manifest.as_bytes()), ("p", &answer)]));
    assert_eq!(deployed.status, 201, "{deployed:?}");
    assert_eq!(server.post("/fn/labels", "").text(), "a b");
    drop(server);
    let server = host(&shop.path().join("store"));
    assert_eq!(server.post("/fn/labels", "").text(), "a b", "{}", server.log());
}

/// One for each kind of reason that no function could make good.
const HOSTILE: [&str; 11] = [
    "begins_with_4_gib",
    "core_module",
    "deep_components",
    "evil_names_in_a_refusal",
    "giant_function",
    "many_exports",
    "many_functions",
    "many_imports",
    "random_bytes",
    "three_memories",
    "truncated",
];

#[test]
fn what_means_ill_is_refused_and_leaves_nothing() {
    let shop = Workshop::new();
    let server = host(&shop.path().join("store"));
    for name in HOSTILE {
        let guest = ALL.iter().find(|guest| guest.name == name).expect("it is listed");
        let Outcome::Refused(words) = guest.outcome else { panic!("{name} is not refused") };
        refused(&send(&server, "/v1/plugins/evil/versions/1", WASM, &(guest.make)()), 422, "load", words);
    }
    let model = |name: &str| std::fs::read(root().join("host/engine/tests/models").join(name)).expect("the model is there");
    let cases = [
        (ONNX, model("external.onnx"), 422, "load", "keeps its data in another file"),
        (TAR, pack(&[("model.onnx", &model("external.onnx")), ("weights.bin", &[0; 64])]), 422, "load", "in another file"),
        (ONNX, model("sequence.onnx"), 422, "load", "not supported"),
        (ONNX, model("no_rank.onnx"), 422, "load", "does not declare its axes"),
        (ONNX, b"no model".to_vec(), 422, "load", "no ONNX model"),
        (TAR, b"no archive".to_vec(), 400, "read", "not a whole tar archive"),
        (TAR, pack(&[("net.onnx", &model("passthrough.onnx"))]), 422, "read", "no `model.onnx` at its top"),
        (TAR, pack(&[("../model.onnx", b"x")]), 400, "read", "leads out"),
    ];
    for (kind, body, status, step, words) in cases {
        refused(&send(&server, "/v1/models/evil/versions/1", kind, &body), status, step, words);
    }
    assert_eq!(ask(&server, "GET", "/v1/plugins", "").json(), json!({ "plugins": [] }));
    assert_eq!(ask(&server, "GET", "/v1/models", "").json(), json!({ "models": [] }));
    assert_eq!(ask(&server, "GET", "/v1/audit", "").json()["entries"], json!([]));
    assert_eq!(blobs(&shop), 0);
    // An endless `init` costs its time, and is told.
    let endless = ALL.iter().find(|guest| guest.name == "loops_in_init").expect("it is listed");
    let added = send(&server, "/v1/plugins/endless/versions/1", WASM, &(endless.make)()).json();
    assert_eq!(added["init"], "failed", "{added}");
    assert!(added["why_no_init"].as_str().is_some_and(|why| why.contains("plugin_init_time_ms")), "{added}");
}

#[test]
fn another_tenants_uploads_are_not_there() {
    let Town { server, operator, acme, other, .. } = &Town::new();
    let send = |key: &str, method: &str, path: &str, kind: &str, body: &[u8]| {
        let authorization = format!("Bearer {key}");
        let headers = [("authorization", authorization.as_str()), ("content-type", kind)];
        exchange(server.control, method, path, &headers, body)
    };
    let [plugin_path, model_path] = ["/v1/plugins/secret/versions/1", "/v1/models/secret/versions/1"];
    for (path, kind, body) in [(plugin_path, WASM, particular()), (model_path, ONNX, negate())] {
        assert_eq!(send(other, "PUT", path, kind, &body).status, 201, "{path}");
    }
    let digest = send(other, "GET", "/v1/plugins/secret", "", b"").json()["versions"][0]["sha256"].clone();
    let digest = digest.as_str().expect("a digest").to_owned();
    // As what nobody has.
    let same = |name: &str| {
        let renamed = |answer: Answer| (answer.status, answer.text().replace(name, "#"));
        [
            renamed(send(acme, "GET", &format!("/v1/plugins/{name}"), "", b"")),
            renamed(send(acme, "GET", &format!("/v1/models/{name}"), "", b"")),
            renamed(send(acme, "DELETE", &format!("/v1/plugins/{name}/versions/1"), "", b"")),
            renamed(send(acme, "GET", &format!("/v1/tenants/globex/plugins/{name}"), "", b"")),
            renamed(send(acme, "PUT", &format!("/v1/tenants/globex/models/{name}/versions/2"), ONNX, &negate())),
            renamed(send(acme, "PUT", "/v1/functions/f", TOML, format!("[plugin]\nfrom = '{name}@1'").as_bytes())),
        ]
    };
    assert_eq!(same("secret"), same("nihil"));
    assert!(same("secret").iter().all(|(status, _)| matches!(status, 404 | 422)), "{:?}", same("secret"));
    let by_digest =
        |digest: &str| send(acme, "PUT", "/v1/functions/f", TOML, format!("[plugin]\nfrom = 'sha256:{digest}'").as_bytes());
    let (theirs, nobodys) = (by_digest(&digest), by_digest(&"0".repeat(64)));
    assert_eq!((theirs.status, theirs.text()), (422, nobodys.text()));
    // The same bytes are uploaded anew, and are new.
    let added = send(acme, "PUT", plugin_path, WASM, &particular());
    assert_eq!(
        (added.status, &added.json()["added"], &added.json()["difference"]),
        (201, &json!(true), &Value::Null),
        "{added:?}"
    );
    assert_eq!(send(operator, "GET", "/v1/tenants/globex/plugins/secret", "", b"").status, 200);
    // What is uploaded counts.
    let quota = |bytes: usize| {
        let body = json!({ "quotas": { "stored_bytes_max": bytes } }).to_string();
        assert_eq!(send(operator, "PUT", "/v1/tenants/acme", "application/json", body.as_bytes()).status, 200);
    };
    quota(10);
    let full = send(acme, "PUT", model_path, ONNX, &[negate(), vec![0; 2]].concat());
    assert_eq!((full.status, full.header("retry-after").is_some()), (429, true), "{full:?}");
    assert!(detail(&full).contains("stored_bytes_max"), "{full:?}");
    assert_eq!(send(acme, "PUT", plugin_path, WASM, &particular()).status, 200, "it is there already");
    quota(1 << 30);
    assert_eq!(send(acme, "PUT", model_path, ONNX, &negate()).status, 201);
    // A key that may call may not upload.
    let body = json!({ "scopes": ["invoke"] }).to_string();
    let key = send(acme, "POST", "/v1/keys", "application/json", body.as_bytes()).json();
    let key = key["secret"].as_str().expect("it is told once");
    assert_eq!(send(key, "PUT", "/v1/plugins/x/versions/1", WASM, plugin()).status, 403);
    assert_eq!(send(key, "GET", "/v1/models", "", b"").status, 403);
    // The folder's way still does.
    assert_eq!(send(acme, "PUT", "/v1/functions/echo", TAR, &archive(&manifest(8))).status, 200);
}
