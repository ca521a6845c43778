//! Releases on a host that serves a store: deployed, taken back and deleted while requests are under way, found again by other hosts
//! and after every death.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::guest;
use crate::harness::{PATIENCE, Server, Workshop, exchange, read_answer, root, run, wait_until};
use crate::store::{archive, ask, configured, deploy, host, manifest, pack, plugin, put};

const FUNCTION: &str = "/v1/functions/echo";

fn answers(server: &Server, release: u32) -> bool {
    let answer = server.post("/fn/echo", "");
    answer.status == 200 && answer.text() == format!("{release} {release}")
}

#[test]
fn what_is_deployed_answers_and_what_was_before_is_one_call_away() {
    let shop = Workshop::new();
    let store = shop.path().join("store");
    let server = host(&store);
    let first = deploy(&server, FUNCTION, 1);
    assert_eq!((&first["release"], &first["previous"], &first["sample"]), (&json!(1), &json!(null), &json!(200)));
    assert!(answers(&server, 1));
    // The same again is the same release.
    assert_eq!(deploy(&server, FUNCTION, 1)["release"], 1);
    let dry = put(&server, &format!("{FUNCTION}?dry_run=true"), &archive(&manifest(2)));
    assert_eq!((dry.status, &dry.json()["release"]), (200, &json!(2)));
    assert!(answers(&server, 1), "nothing has changed");
    for release in 2..=4 {
        assert_eq!(deploy(&server, FUNCTION, release)["release"], release);
    }
    assert!(answers(&server, 4));
    let kept = ask(&server, "GET", FUNCTION, "").json();
    let kept: Vec<_> = kept["releases"].as_array().expect("a list").iter().map(|release| release["release"].clone()).collect();
    assert_eq!(kept, [4, 3, 2], "the last three");
    let difference = ask(&server, "GET", &format!("{FUNCTION}/difference?from=2&to=4"), "").json();
    assert_eq!(difference["manifest"], json!(["-release = '2'", "+release = '4'"]));
    let back = ask(&server, "POST", &format!("{FUNCTION}/rollback"), "").json();
    assert_eq!((&back["release"], &back["previous"]), (&json!(3), &json!(4)));
    assert!(answers(&server, 3));
    assert_eq!(server.get("/v2/models/echo").json()["versions"], json!(["2", "3", "4"]));
    assert_eq!(ask(&server, "POST", &format!("{FUNCTION}/rollback"), r#"{"to": 1}"#).status, 404, "it is not kept any more");
    drop(server);
    let server = host(&store);
    assert!(answers(&server, 3), "{}", server.log());
    wait_until("the kept ones are loaded", || server.get("/v2/models/echo/versions/2/ready").status == 200);
    assert_eq!(ask(&server, "DELETE", FUNCTION, "").status, 204);
    assert_eq!(server.post("/fn/echo", "").status, 404);
    assert_eq!(deploy(&server, FUNCTION, 9)["release"], 5, "numbers do not come back");
}

/// A new plugin costs no second copy of the model, and the model needs no file of a release that is gone.
#[test]
fn releases_of_the_same_model_have_it_together() {
    let shop = Workshop::new();
    let store = shop.path().join("store");
    let server = configured(&store, "warm_ms = 1\n");
    let model = || ask(&server, "GET", "/functions/echo/models", "").json()["models"][0].clone();
    let runs = || model()["served"].as_u64().expect("a number");
    // Each has a plugin of its own, which only the name of an empty section tells from the others.
    let onnx = std::fs::read(root().join("host/engine/tests/models/passthrough.onnx")).expect("the model is there");
    let folder = |release: u32, manifest: &str| {
        let plugin = [plugin(), &[0, 2, 1, b'a' + u8::try_from(release).expect("few")]].concat();
        pack(&[("function.toml", manifest.as_bytes()), ("model.onnx", &onnx), ("plugin.wasm", &plugin)])
    };
    let deploy = |release: u32, manifest: &str, query: &str| {
        let answer = put(&server, &format!("{FUNCTION}{query}"), &folder(release, manifest));
        assert!(matches!(answer.status, 200 | 201), "{answer:?}\n{}", server.log());
        answer.json()["models"][0]["kept"].as_bool().expect("whether it is")
    };
    assert!(!deploy(1, &manifest(1), ""));
    let before = runs();
    for release in 2..=5 {
        assert!((0..3).all(|_| answers(&server, release - 1)));
        let served = runs();
        assert!(!deploy(release, &manifest(release), "?dry_run=true"), "a dry run has its own");
        assert_eq!(runs(), served, "and nothing to do with what serves");
        assert!(deploy(release, &manifest(release), ""), "of release {}", release - 1);
    }
    assert!(runs() >= before + 12, "it is the same session");
    let folders = || std::fs::read_dir(shop.path().join("work")).expect("a folder").flatten().flat_map(|host| walk(&host.path()));
    let files = || folders().filter(|path| !path.ends_with("lock")).count();
    wait_until("one file is left of five releases", || files() == 1);
    // Spare releases have their models unloaded at once here: not one that the release that answers has as well.
    assert_eq!(ask(&server, "POST", &format!("{FUNCTION}/rollback"), "").status, 200);
    assert!(answers(&server, 4));
    assert_eq!(server.post("/v2/repository/models/echo/unload", "").status, 200);
    wait_until("it goes", || model()["stage"] == "unloaded");
    assert!(answers(&server, 4), "{}", server.log());
    let unloads = |reason| {
        let labels = format!(r#"function="echo",model="model",reason="{reason}",tenant="default""#);
        server.metric(&format!("sandmill_model_unloads_total{{{labels}}}"))
    };
    assert_eq!((unloads("request"), unloads("idle")), (Some(1.0), None));
    // Run in another way, or measured with another request, it is another model.
    assert!(!deploy(6, &manifest(6).replace("[model]", "[model]\nbatch_max = 7"), ""));
    assert!(!deploy(7, &manifest(7).replace("[model]", "[model]\nbatch_max = 7").replace("'POST'", "'POST'\npath = '/x'"), ""));
    assert!(answers(&server, 7));
    // Kept releases that are loaded at a start are no exception: of these the last has a model of its own.
    assert!(deploy(8, &manifest(8).replace("[model]", "[model]\nbatch_max = 7").replace("'POST'", "'POST'\npath = '/x'"), ""));
    drop(server);
    let server = host(&store);
    let versions = || server.get("/v2/models/echo").json()["versions"].as_array().map_or(0, Vec::len);
    wait_until("all three are there, and two models", || versions() == 3 && files() == 2);
}

/// Whatever a release consists of is stored, although nothing of it was loaded.
#[test]
fn a_function_without_a_model_is_deployed_and_changed() {
    let shop = Workshop::new();
    let store = shop.path().join("store");
    let folder = |said: &str, label: &[u8]| {
        let code = format!("(call $answer (i32.const 200) (i32.const 900) (i32.const {}))", said.len());
        let data = format!("(data (i32.const 900) \"{said}\")");
        let plugin = guest::component("preprocessor", &(data + &guest::preprocess(&code)));
        pack(&[
            ("function.toml", b"assets = ['labels.txt']\n[preprocess]\npath = 'plugin.wasm'\n"),
            ("plugin.wasm", &plugin),
            ("labels.txt", label),
        ])
    };
    let server = host(&store);
    for (release, (said, label)) in [("one", &b"a"[..]), ("three", b"a"), ("three", b"b")].into_iter().enumerate() {
        let answer = put(&server, "/v1/functions/says", &folder(said, label));
        assert_eq!(answer.status, if release == 0 { 201 } else { 200 }, "{answer:?}\n{}", server.log());
        assert_eq!(server.post("/fn/says", "").text(), said);
    }
    drop(server);
    assert_eq!(host(&store).post("/fn/says", "").text(), "three");
}

#[test]
fn a_deployment_that_fails_changes_nothing_and_says_where_it_failed() {
    let shop = Workshop::new();
    let server = host(&shop.path().join("store"));
    deploy(&server, FUNCTION, 1);
    let before = ask(&server, "GET", FUNCTION, "").json();
    let good = manifest(2);
    let cases: [(Vec<u8>, u16, &str, &str); 7] = [
        (b"no archive".to_vec(), 400, "read", "not a whole tar archive"),
        (pack(&[("../x", b"1")]), 400, "read", "leads out"),
        (pack(&[("x", b"1")]), 422, "read", "function.toml"),
        (pack(&[("function.toml", good.as_bytes())]), 422, "read", "model.onnx"),
        (pack(&[("function.toml", b"name = 'other'\n[model]\npath='m'"), ("m", b"x")]), 422, "read", "`other`"),
        (pack(&[("function.toml", good.as_bytes()), ("model.onnx", b"x"), ("plugin.wasm", b"x")]), 422, "load", "model.onnx"),
        (archive(&good.replace("release = '2'", "release = 'x'")), 422, "load", "sample"),
    ];
    for (archive, status, step, text) in cases {
        let answer = put(&server, FUNCTION, &archive);
        let problem = answer.json();
        assert_eq!((answer.status, &problem["step"]), (status, &json!(step)), "{problem}");
        let detail = problem["detail"].as_str().expect("a text");
        assert!(detail.contains(text), "{detail}");
        assert!(
            !detail.contains("/work") && !detail.contains("/tmp") && !detail.contains("host-"),
            "the host's own paths: {detail}"
        );
    }
    let secret = manifest(2).replace("release = '2'", "release.secret_env = 'OTHER'");
    let answer = put(&server, FUNCTION, &archive(&secret));
    assert!(answer.status == 422 && answer.text().contains("environment"), "{answer:?}");
    assert_eq!(ask(&server, "GET", FUNCTION, "").json(), before);
    assert!(answers(&server, 1));
}

#[test]
fn who_rests_on_an_old_state_is_told_of_the_new_one() {
    let shop = Workshop::new();
    let server = host(&shop.path().join("store"));
    deploy(&server, FUNCTION, 1);
    let seen = ask(&server, "GET", FUNCTION, "").header("etag").expect("a revision").to_owned();
    deploy(&server, FUNCTION, 2);
    let headers = [("content-type", "application/x-tar"), ("if-match", seen.as_str())];
    let answer = exchange(server.control, "PUT", FUNCTION, &headers, &archive(&manifest(3)));
    assert_eq!(answer.status, 409, "{answer:?}");
    assert_eq!(answer.json()["revision"], 2);
    assert!(answers(&server, 2));
}

/// Requests over connections of their own until `stop`; how many there were.
fn call_until(server: &Server, stop: &AtomicBool) -> usize {
    let mut stream = server.connect();
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        use std::io::Write as _;
        stream.write_all(b"POST /fn/echo HTTP/1.1\r\nhost: test\r\ncontent-length: 0\r\n\r\n").expect("written");
        let answer = read_answer(&mut stream).expect("an answer");
        let text = answer.text();
        assert_eq!(answer.status, 200, "{text}");
        let (before, after) = text.split_once(' ').expect("two releases");
        assert_eq!(before, after, "an answer of two releases");
        count += 1;
    }
    count
}

#[test]
fn deployments_and_rollbacks_under_load_fail_no_request_and_mix_no_releases() {
    let shop = Workshop::new();
    let server = configured(&shop.path().join("store"), "changes_per_minute_max = 100000\n");
    deploy(&server, FUNCTION, 1);
    let stop = AtomicBool::new(false);
    let calls: usize = thread::scope(|scope| {
        let callers: Vec<_> = (0..8).map(|_| scope.spawn(|| call_until(&server, &stop))).collect();
        for round in 0..rounds(15) {
            let release = deploy(&server, FUNCTION, 2 + round)["release"].as_u64().expect("a number");
            let begun = Instant::now();
            let back = ask(&server, "POST", &format!("{FUNCTION}/rollback"), "");
            assert_eq!(back.status, 200, "{back:?}");
            println!("back from {release} after {:?}", begun.elapsed());
        }
        stop.store(true, Ordering::Relaxed);
        callers.into_iter().map(|caller| caller.join().expect("no request failed")).sum()
    });
    assert!(calls > 100, "{calls}");
}

/// A longer run than there is time for each time: `SANDMILL_TEST_ROUNDS=300 cargo test …`.
fn rounds(usual: u32) -> u32 {
    std::env::var("SANDMILL_TEST_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(usual)
}

/// What a host has acknowledged.
#[derive(Default)]
struct Acknowledged {
    /// The last record, as an audit tells it.
    last: Option<(u64, String, String)>,
    /// The release that answered then.
    release: u64,
    versions: BTreeSet<u64>,
}

impl Acknowledged {
    fn keep(&mut self, revision: u64, what: &str, of: String) {
        self.last = Some((revision, what.to_owned(), of));
    }

    /// All of it is there; what came after it is there as a whole, or is not.
    fn check(&self, server: &Server) {
        let Some((revision, what, of)) = &self.last else { return };
        let audit = ask(server, "GET", &format!("/v1/audit?after={}", revision - 1), "").json();
        let entries = audit["entries"].as_array().expect("a list");
        assert_eq!(
            entries[0],
            json!({ "revision": revision, "what": what, "of": of, "at_ms": entries[0]["at_ms"], "by": entries[0]["by"], "from": entries[0]["from"] })
        );
        let moved = |entry: &&Value| matches!(entry["what"].as_str(), Some("released" | "rolled_back"));
        let last = entries.iter().rfind(moved).and_then(|entry| entry["of"].as_str()?.strip_prefix("echo ")?.parse().ok());
        let release = last.unwrap_or(self.release);
        let known = ask(server, "GET", FUNCTION, "").json();
        assert_eq!((&known["release"], &known["trouble"]), (&json!(release), &Value::Null), "{known}\n{audit}");
        assert_eq!(server.post("/fn/echo", "").status, 200, "{}", server.log());
        let known = ask(server, "GET", "/v1/plugins", "").json();
        let known = known["plugins"][0]["versions"].as_array().cloned().unwrap_or_default();
        let known: BTreeSet<u64> = known.iter().filter_map(|version| version["version"].as_str()?.parse().ok()).collect();
        assert!(self.versions.is_subset(&known), "{:?} were acknowledged, and there are {known:?}", self.versions);
    }
}

#[test]
fn a_host_that_is_killed_loses_nothing_that_it_has_acknowledged() {
    let shop = Workshop::new();
    let store = shop.path().join("store");
    // Whatever nothing names is deleted as soon as that may be, in the midst of it.
    let eager = "collect_ms = 50\nunnamed_ms = 100\nchanges_per_minute_max = 100000\n";
    let (mut count, mut acknowledged) = (0, Acknowledged::default());
    for round in 0..rounds(8) {
        let server = configured(&store, eager);
        acknowledged.check(&server);
        let pid = server.pid();
        // Somewhere in the middle of a change, another moment each time.
        let killer = thread::spawn(move || {
            thread::park_timeout(Duration::from_millis(100 + u64::from(round * 137 % 900)));
            let pid = rustix::process::Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("a pid");
            let _gone = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        });
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE && change(&server, &mut count, &mut acknowledged).is_some() {}
        killer.join().expect("it was killed");
    }
    let server = configured(&store, eager);
    acknowledged.check(&server);
    let work: Vec<_> = std::fs::read_dir(store.with_file_name("work")).expect("read").collect();
    assert_eq!(work.len(), 1, "what the dead left is gone: {work:?}");
    let report = run(&["doctor", "--store", store.to_str().expect("UTF-8")]);
    assert!(report.status.success(), "{}", String::from_utf8_lossy(&report.stdout));
}

/// A release, now and then taken back, and a plugin's version, which goes by and by; none if the host died meanwhile.
fn change(server: &Server, count: &mut u64, known: &mut Acknowledged) -> Option<()> {
    *count += 1;
    let body = archive(&manifest(u32::try_from(*count).expect("few")));
    let (revision, told) = attempt(server, "PUT", FUNCTION, "application/x-tar", &body)?;
    known.release = told["release"].as_u64().expect("a release");
    known.keep(revision, "released", format!("echo {}", known.release));
    if count.is_multiple_of(3) && known.release > 1 {
        let (revision, told) = attempt(server, "POST", &format!("{FUNCTION}/rollback"), "", b"")?;
        known.release = told["release"].as_u64().expect("a release");
        known.keep(revision, "rolled_back", format!("echo {}", known.release));
    }
    let path = |version: u64| format!("/v1/plugins/echo/versions/{version}");
    let (revision, _added) = attempt(server, "PUT", &path(*count), "application/wasm", plugin())?;
    known.versions.insert(*count);
    known.keep(revision, "plugin_added", format!("echo {count}"));
    if let Some(oldest) = known.versions.first().copied().filter(|_| known.versions.len() > 5) {
        // Acknowledged or not: it is not missed.
        known.versions.remove(&oldest);
        let (revision, _gone) = attempt(server, "DELETE", &path(oldest), "", b"")?;
        known.keep(revision, "plugin_removed", format!("echo {oldest}"));
    }
    Some(())
}

/// The revision and the answer, if the host lived to give it.
fn attempt(server: &Server, method: &str, path: &str, kind: &str, body: &[u8]) -> Option<(u64, Value)> {
    use std::io::Write as _;
    let mut stream = std::net::TcpStream::connect(server.control).ok()?;
    let kind = if kind.is_empty() { String::new() } else { format!("content-type: {kind}\r\n") };
    let head = format!("{method} {path} HTTP/1.1\r\nhost: test\r\n{kind}content-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).ok()?;
    let answer = read_answer(&mut stream).ok()?;
    assert!((200..300).contains(&answer.status), "{method} {path}: {answer:?}");
    let revision = answer.header("etag").and_then(|tag| tag.trim_matches('"').parse().ok()).expect("a revision");
    Some((revision, if answer.status == 204 { Value::Null } else { answer.json() }))
}

#[test]
fn hosts_on_one_store_follow_one_another() {
    let shop = Workshop::new();
    let store = shop.path().join("store");
    let one = host(&store);
    let other = configured(&store, "");
    deploy(&one, FUNCTION, 1);
    wait_until("the other follows", || answers(&other, 1));
    let begun = Instant::now();
    deploy(&other, FUNCTION, 2);
    wait_until("the first follows", || answers(&one, 2));
    println!("followed after {:?}", begun.elapsed());
    ask(&one, "POST", &format!("{FUNCTION}/rollback"), "");
    wait_until("the other goes back too", || answers(&other, 1));
    ask(&other, "DELETE", FUNCTION, "");
    wait_until("it is gone everywhere", || one.post("/fn/echo", "").status == 404);
}

#[test]
fn a_host_that_loses_its_store_serves_on_says_so_and_refuses_changes() {
    let shop = Workshop::new();
    let store = shop.path().join("store");
    let server = host(&store);
    deploy(&server, FUNCTION, 1);
    let ready = || exchange(server.control, "GET", "/ready", &[], b"");
    assert!(!ready().text().contains("remarks"), "{:?}", ready());
    std::fs::rename(&store, shop.path().join("away")).expect("renamed");
    wait_until("it is noticed", || ready().status == 200 && ready().text().contains("the store could not be read"));
    assert!(server.metric("sandmill_store_stale_seconds") > Some(0.0));
    assert!(answers(&server, 1), "what was known is served");
    let refused = put(&server, FUNCTION, &archive(&manifest(2)));
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(!refused.text().contains(shop.path().to_str().expect("UTF-8")), "the host's own paths: {refused:?}");
    let there: Vec<_> = walk(&store);
    assert_eq!(there, Vec::<PathBuf>::new(), "nothing is written where the store was");
    std::fs::rename(shop.path().join("away"), &store).expect("renamed");
    wait_until("it is found again", || !ready().text().contains("remarks"));
    assert_eq!(deploy(&server, FUNCTION, 2)["release"], 2);
    assert!(answers(&server, 2));
}

#[test]
fn what_was_used_is_metered_and_outlives_its_host() {
    let shop = Workshop::new();
    let store = shop.path().join("store");
    let mut server = host(&store);
    deploy(&server, FUNCTION, 1);
    for _ in 0..20 {
        assert!(answers(&server, 1));
    }
    let used = |server: &Server| {
        let hours = ask(server, "GET", "/v1/usage", "").json()["hours"].clone();
        let functions: Vec<_> = hours.as_array().expect("hours").iter().map(|hour| hour["functions"]["echo"].clone()).collect();
        let sum = |what: &str| functions.iter().filter_map(|function| function[what].as_u64()).sum::<u64>();
        (sum("requests"), sum("plugin_us"), sum("model_us"), sum("sent_bytes"))
    };
    wait_until("they are counted", || used(&server).0 == 20);
    let (_, plugin_us, model_us, sent_bytes) = used(&server);
    assert!(plugin_us > 0 && model_us > 0, "{:?}", used(&server));
    assert_eq!(sent_bytes, 20 * "1 1".len() as u64);
    // What is metered is what the metrics have.
    let labels = "{function=\"echo\",tenant=\"default\"}";
    let metric = |name: &str| server.metric(&format!("sandmill_{name}_seconds_total{labels}")).expect("it is there");
    for (name, micros) in [("plugin", plugin_us), ("model", model_us)] {
        let (metered, measured) = (Duration::from_micros(micros).as_secs_f64(), metric(name));
        assert!((metered - measured).abs() <= 0.01 * measured + 2e-6, "{name}: {metered} and {measured}");
    }
    let before = used(&server);
    server.terminate();
    assert!(server.wait().success());
    let server = host(&store);
    assert_eq!(used(&server), before);
    for _ in 0..5 {
        assert!(answers(&server, 1));
    }
    wait_until("both add up", || used(&server).0 == 25);
    ask(&server, "DELETE", FUNCTION, "");
    assert_eq!(used(&server).0, 25, "what is gone was used all the same");
}

#[test]
fn a_request_that_outlives_its_function_is_metered() {
    let shop = Workshop::new();
    let server = host(&shop.path().join("store"));
    let model = std::fs::read(root().join("host/engine/tests/models/loop.onnx")).expect("the model is there");
    let manifest = b"model.path = 'model.onnx'\nlimits.timeout_ms = 2000\n";
    let function = "/v1/functions/loop";
    let deployed = put(&server, function, &pack(&[("function.toml", manifest), ("model.onnx", &model)]));
    assert_eq!(deployed.status, 201, "{deployed:?}");
    let page = || exchange(server.control, "GET", "/metrics", &[], b"").text();
    let under_way = "sandmill_requests_in_flight{function=\"loop\",tenant=\"default\"} 1";
    thread::scope(|scope| {
        let call = scope.spawn(|| {
            let turns = json!({"name": "turns", "shape": [], "datatype": "INT64", "data": [i64::MAX]});
            let x = json!({"name": "x", "shape": [1], "datatype": "FP32", "data": [1.0]});
            server.post("/fn/loop", json!({"inputs": [turns, x]}).to_string())
        });
        wait_until("it is under way", || page().contains(under_way));
        assert_eq!(ask(&server, "DELETE", function, "").status, 204);
        assert!(page().contains(under_way), "it is still there");
        assert_eq!(call.join().expect("it was answered").status, 504);
    });
    let used = || ask(&server, "GET", "/v1/usage", "").json()["hours"][0]["functions"]["loop"].clone();
    wait_until("it is metered", || used()["requests"] == 1);
    assert!(used()["model_us"].as_u64() > Some(1_000_000), "{}", used());
    let shown = || page().lines().filter(|line| line.contains("\"loop\"")).map(|line| format!("{line}\n")).collect::<String>();
    let begun = Instant::now();
    while !shown().is_empty() {
        assert!(begun.elapsed() < PATIENCE, "it is still shown:\n{}{}", shown(), server.log());
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(used()["requests"], 1, "once");
}

/// All files below a folder.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn what_plugins_say_and_why_they_fail_is_their_owners_to_read() {
    let shop = Workshop::new();
    let server = host(&shop.path().join("store"));
    let logs = |query: &str| ask(&server, "GET", &format!("{FUNCTION}/logs{query}"), "");
    assert_eq!(logs("").status, 404, "it was never there");
    // Its sample fails, as the setting is no number.
    assert_eq!(put(&server, FUNCTION, &archive(&manifest(1).replace("'1'", "'one'"))).status, 422);
    let lines = logs("").json()["lines"].clone();
    let line = &lines[0];
    assert_eq!((&line["number"], &line["level"]), (&json!(1), &json!("error")), "{lines}");
    assert!(line["text"].as_str().is_some_and(|text| text.contains("plugin_failed") && text.contains("invalid float")), "{line}");
    assert_eq!(logs("?after=1").json(), json!({ "lines": [] }));
    // Whoever waits is told as soon as there is something.
    let waiting = thread::scope(|scope| {
        let waiting = scope.spawn(|| logs("?after=1&wait_ms=20000"));
        put(&server, FUNCTION, &archive(&manifest(1).replace("'1'", "'two'")));
        waiting.join().expect("it was answered")
    });
    assert_eq!(waiting.json()["lines"][0]["number"], 2);
    deploy(&server, FUNCTION, 1);
    assert!(answers(&server, 1));
    assert_eq!(logs("?after=2").json(), json!({ "lines": [] }), "nothing went wrong");
}
