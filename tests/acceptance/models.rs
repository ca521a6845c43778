//! Models over their life on a running server: what leaks is replaced, what is idle goes and comes back, what does not listen is left to
//! itself, and nobody else notices.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Barrier;
use std::thread;

use serde_json::{Value, json};

use crate::harness::{Answer, Server, Workshop, exchange, read_answer, root, run, wait_until};
use crate::store;

/// A function of one of the engine's models.
fn function(workshop: &Workshop, model: &str, rest: &str) -> PathBuf {
    let bytes = std::fs::read(root().join(format!("host/engine/tests/models/{model}.onnx"))).expect("the model is there");
    workshop.write(&format!("{model}/model.onnx"), bytes);
    let manifest = workshop.write(&format!("{model}/function.toml"), rest);
    manifest.parent().expect("a folder").to_owned()
}

fn digits(workshop: &Workshop, rest: &str) -> PathBuf {
    workshop.function("digits", &format!("[model]\npath = 'model.onnx'\n{rest}"), None)
}

/// So many rows by the Open Inference Protocol.
fn ask(server: &Server, rows: usize) -> Answer {
    let x = json!({"name": "X", "shape": [rows, 64], "datatype": "FP32", "data": vec![0.5; rows * 64]});
    server.post("/v2/models/digits/infer", json!({"inputs": [x]}).to_string())
}

fn metric(server: &Server, name: &str, function: &str, last: &str) -> f64 {
    let line = format!(r#"sandmill_model_{name}{{function="{function}",model="model"{last},tenant="default"}}"#);
    server.metric(&line).unwrap_or(0.0)
}

fn control(server: &Server, method: &str, path: &str) -> Answer {
    exchange(server.control, method, path, &[], b"")
}

fn model(server: &Server, function: &str) -> Value {
    control(server, "GET", &format!("/functions/{function}/models")).json()["models"][0].clone()
}

#[test]
fn memory_grows_until_the_session_is_replaced() {
    let workshop = Workshop::new();
    let config = "[engine.recycle]\ngrowth_bytes_max = '1MiB'\nhard_factor = 100\npause_ms = 0\n";
    let server = Server::configured(config, &[digits(&workshop, "batch_max = 4096\nbatching = 'off'\n")]);
    let warm = model(&server, "digits")["warm_memory_bytes"].as_u64().expect("a number");
    assert_eq!(ask(&server, 1).status, 200);
    let recycled = || metric(&server, "recycles_total", "digits", r#",reason="memory""#);
    assert_eq!(recycled(), 0.0);
    // The runtime keeps what its largest batch has needed.
    wait_until("it is replaced", || {
        assert_eq!(ask(&server, 4096).status, 200);
        recycled() > 0.0
    });
    wait_until("the memory is back", || model(&server, "digits")["memory_bytes"].as_u64() < Some(warm + (1 << 20)));
}

#[test]
fn a_burst_onto_a_model_that_is_not_there_is_one_load_and_everybody_is_answered() {
    let workshop = Workshop::new();
    let server = Server::configured("[engine]\nidle_ms = 1\n", &[digits(&workshop, "min = 0\n")]);
    assert_eq!(model(&server, "digits")["profile"]["batch_rows_max"].as_u64().map(|rows| rows > 0), Some(true));
    wait_until("it goes", || model(&server, "digits")["stage"] == "unloaded");
    // It would be there for its next call, and nobody who only looks makes it come.
    assert_eq!(server.get("/v2/health/ready").status, 200);
    assert_eq!(server.get("/v2/models/digits/ready").status, 200);
    assert_eq!(model(&server, "digits")["stage"], "unloaded");
    let together = Barrier::new(16);
    thread::scope(|scope| {
        let callers: Vec<_> = (0..16)
            .map(|_| {
                scope.spawn(|| {
                    together.wait();
                    ask(&server, 1)
                })
            })
            .collect();
        for caller in callers {
            let answer = caller.join().expect("asks");
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    });
    // It went once more than it came: an unload is counted when its memory is given back, a while after its stage says so.
    let loads = || metric(&server, "cold_starts_total", "digits", r#",result="good""#);
    let unloads = || metric(&server, "unloads_total", "digits", r#",reason="idle""#);
    wait_until("every load was of a model that had gone", || loads() >= 1.0 && unloads() == loads() + 1.0);
}

#[test]
fn a_model_whose_file_has_changed_is_not_loaded() {
    let workshop = Workshop::new();
    let folder = digits(&workshop, "min = 0\n");
    let server = Server::configured("[engine]\nidle_ms = 1\n", std::slice::from_ref(&folder));
    wait_until("it goes", || model(&server, "digits")["stage"] == "unloaded");
    let path = folder.join("model.onnx");
    let good = std::fs::read(&path).expect("reads");
    std::fs::write(&path, std::fs::read(root().join("host/engine/tests/models/scalar.onnx")).expect("reads")).expect("writes");
    let answer = ask(&server, 1);
    assert_eq!((answer.status, answer.error().as_str()), (503, "the model could not be loaded again"));
    assert!(answer.header("retry-after").is_some());
    wait_until("it is logged", || server.log().contains("has changed since it was deployed"));
    // Nobody writes into this pipe: it is not waited for.
    std::fs::remove_file(&path).expect("removes");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().expect("runs").success());
    wait_until("it is tried again", || server.log().contains("is no regular file") || ask(&server, 1).status == 200);
    std::fs::remove_file(&path).expect("removes");
    std::fs::write(&path, good).expect("writes");
    wait_until("it is loaded again", || ask(&server, 1).status == 200);
}

#[test]
fn a_run_of_a_kept_release_that_does_not_listen_opens_the_breakers_of_those_with_its_model() {
    let workshop = Workshop::new();
    let store = workshop.path().join("store");
    let server = store::host(&store);
    let model = std::fs::read(root().join("host/engine/tests/models/giant.onnx")).expect("the model is there");
    // Run alike, the first two have one model together; the third has its own.
    for (timeout, queue) in [(1000, 9), (2000, 9), (3000, 10)] {
        let manifest = format!("model = {{ path = 'model.onnx', queue_max = {queue} }}\nlimits.timeout_ms = {timeout}\n");
        let archive = store::pack(&[("function.toml", manifest.as_bytes()), ("model.onnx", &model)]);
        let answer = store::put(&server, "/v1/functions/giant", &archive);
        assert_eq!(answer.status, 200 + u16::from(timeout == 1000), "{answer:?}");
    }
    drop(server);
    // Only here has nobody ever called the first two by the function's name.
    let server = store::host(&store);
    let size = |version: u32, n: i64| {
        let n = json!({"name": "n", "shape": [1], "datatype": "INT64", "data": [n]});
        server.post(&format!("/v2/models/giant/versions/{version}/infer"), json!({"inputs": [n]}).to_string())
    };
    wait_until("the kept ones are loaded", || [1, 2].iter().all(|version| size(*version, 3).status == 200));
    assert_eq!(size(1, 7000).status, 504);
    wait_until("it is left to itself", || metric(&server, "runs_abandoned_total", "giant", "") == 1.0);
    assert_eq!([1, 2, 3].map(|version| size(version, 3).status), [503, 503, 200]);
}

#[test]
fn a_run_that_does_not_listen_opens_its_breaker_and_harms_nobody() {
    let workshop = Workshop::new();
    let giant = function(&workshop, "giant", "model.path = 'model.onnx'\n[limits]\ntimeout_ms = 1000\n");
    let server = Server::configured("[engine]\nabandoned_max = 0\n", &[giant, digits(&workshop, "")]);
    let size = |n: i64| {
        let n = json!({"name": "n", "shape": [1], "datatype": "INT64", "data": [n]});
        server.post("/fn/giant", json!({"inputs": [n]}).to_string())
    };
    assert_eq!(size(3).json()["outputs"][0]["data"], json!([27.0]));
    assert_eq!(size(7000).status, 504);
    wait_until("it is left to itself", || metric(&server, "runs_abandoned_total", "giant", "") == 1.0);
    assert_eq!(size(3).json()["code"], "model_unhealthy");
    assert_eq!(ask(&server, 1).status, 200);
    let ready = control(&server, "GET", "/ready");
    assert_eq!((ready.status, ready.json()["ready"].clone()), (503, json!(false)));
    assert!(ready.json()["reason"].as_str().expect("a reason").contains("engine.abandoned_max"), "{}", ready.text());
    // Who asks from outside is not told why.
    assert_eq!(server.get("/v2/health/ready").json(), json!({"ready": false}));
    assert_eq!(server.get("/v2/health/live").status, 200);
    wait_until("it has ended after all", || control(&server, "GET", "/ready").status == 200);
    assert_eq!(metric(&server, "runs_abandoned", "giant", ""), 0.0);
}

#[test]
fn an_operator_has_a_session_replaced() {
    let workshop = Workshop::new();
    let server = Server::start(&[digits(&workshop, "")]);
    assert_eq!(ask(&server, 1).status, 200);
    let answer = control(&server, "POST", "/functions/digits/models/model/recycle");
    assert_eq!((answer.status, answer.text().as_str()), (202, r#"{"recycling":"model"}"#));
    wait_until("it is", || metric(&server, "recycles_total", "digits", r#",reason="by_hand""#) == 1.0);
    assert_eq!(model(&server, "digits")["served"], 0);
    for (method, path, status) in [
        ("GET", "/functions/digits/models/model/recycle", 405),
        ("POST", "/functions/digits/models", 405),
        ("POST", "/functions/digits/models/other/recycle", 404),
        ("POST", "/functions/nobody/models/model/recycle", 404),
        ("GET", "/functions/nobody/models", 404),
        ("GET", "/functions/..%2f/models", 404),
        ("GET", "/functions/digits", 404),
        ("GET", "/functions/digits/models/model/recycle/now", 404),
    ] {
        assert_eq!(control(&server, method, path).status, status, "{method} {path}");
    }
    // Not for those who only call functions.
    assert_eq!(server.post("/functions/digits/models/model/recycle", "").status, 404);
}

#[test]
fn a_model_that_never_ends_its_trial_harms_no_server() {
    let workshop = Workshop::new();
    let endless = function(&workshop, "endless", "model.path = 'model.onnx'\n");
    let config = workshop.write("sandmill.toml", "[engine]\nnotes = ''\n[engine.quarantine]\ntimeout_ms = 2000\n");
    let (folder, config) = (endless.display().to_string(), config.display().to_string());
    let output = run(&["check", &folder, "--config", &config]);
    let words = String::from_utf8(output.stderr).expect("text");
    assert!(!output.status.success());
    assert!(words.contains("trying the model was ended: it took longer than 2s and was ended"), "{words}");
    assert!(words.contains("endless): model.onnx"), "it says which: {words}");
}

#[test]
fn what_was_found_out_about_a_model_is_found_out_once() {
    let (workshop, home) = (Workshop::new(), Workshop::new());
    let folder = digits(&workshop, "");
    let notes = || std::fs::read_dir(home.path().join(".cache/sandmill/models")).expect("the folder is there").count();
    let start = || Server::at_home(home.path(), std::slice::from_ref(&folder));
    let first = model(&start(), "digits")["profile"].clone();
    assert_eq!(notes(), 2, "that it was tried, and what was measured");
    // The times of another measurement would be others.
    assert_eq!(model(&start(), "digits")["profile"], first);
    assert_eq!(notes(), 2);
    for note in std::fs::read_dir(home.path().join(".cache/sandmill/models")).expect("the folder is there") {
        std::fs::write(note.expect("a note").path(), "no note").expect("writes");
    }
    assert_eq!(ask(&start(), 1).status, 200);
    assert_eq!(notes(), 2);
}

#[test]
fn a_model_that_is_debugged_answers_as_ever_and_has_all_its_names() {
    let workshop = Workshop::new();
    let debugged = workshop.function("debugged", "[model]\npath = 'model.onnx'\noptimization = 'debug'\n", None);
    let server = Server::start(&[digits(&workshop, ""), debugged]);
    let ask = |name: &str| {
        let x: Vec<f64> = (0..64).map(|at| f64::from(at % 17) / 16.0).collect();
        let x = json!({"name": "X", "shape": [1, 64], "datatype": "FP32", "data": x});
        let outputs =
            server.post(&format!("/v2/models/{name}/infer"), json!({"inputs": [x]}).to_string()).json()["outputs"].clone();
        let probabilities =
            outputs[1]["data"].as_array().expect("numbers").iter().map(|number| number.as_f64().expect("a number"));
        (outputs[0]["data"].clone(), probabilities.collect::<Vec<f64>>())
    };
    let (one, other) = (ask("digits"), ask("debugged"));
    assert_eq!(one.0, other.0);
    one.1.iter().zip(&other.1).for_each(|(one, other)| assert!((one - other).abs() < 1e-4, "{one} {other}"));
    let metadata = |name: &str| server.get(&format!("/v2/models/{name}")).json();
    assert_eq!(metadata("digits")["inputs"], metadata("debugged")["inputs"]);
    assert_eq!(metadata("digits")["outputs"], metadata("debugged")["outputs"]);
    for function in ["digits", "debugged"] {
        let provider = format!(r#"sandmill_model_provider{{function="{function}",provider="cpu",tenant="default"}}"#);
        assert_eq!(server.metric(&provider), Some(1.0));
    }
}

#[test]
fn a_provider_that_is_missing_is_an_error_unless_a_fallback_is_declared() {
    let workshop = Workshop::new();
    let wanting = |rest: &str| digits(&workshop, &format!("providers = ['tensorrt', 'cpu']\n{rest}"));
    let check = |folder: PathBuf| run(&["check", &folder.display().to_string()]);
    let output = check(wanting(""));
    let words = String::from_utf8(output.stderr).expect("text");
    assert!(!output.status.success() && words.contains("provider `tensorrt` cannot be used"), "{words}");
    let output = check(wanting("fallback = true\n"));
    let words = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success() && words.contains("provider: cpu") && words.contains("it fell back: `tensorrt`"), "{words}");
}

#[test]
fn a_request_that_there_is_no_room_for_is_refused_from_its_head() {
    let workshop = Workshop::new();
    let slow =
        function(&workshop, "loop", "[model]\npath = 'model.onnx'\nthreads = 1\nqueue_max = 1\n[limits]\ntimeout_ms = 60000\n");
    let server = Server::start(&[slow]);
    let body = |turns: i64| {
        let turns = json!({"name": "turns", "shape": [], "datatype": "INT64", "data": [turns]});
        let x = json!({"name": "x", "shape": [1], "datatype": "FP32", "data": [1.0]});
        json!({"inputs": [turns, x]}).to_string()
    };
    let busy = || model(&server, "loop");
    let send = || {
        let (mut stream, body) = (server.connect(), body(i64::MAX));
        let head = format!("POST /fn/loop HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).expect("writes");
        stream
    };
    let running = send();
    wait_until("it runs", || busy()["running"] == 1);
    let waiting = send();
    wait_until("it waits", || busy()["waiting"]["normal"] == 1);
    // Its body never comes: it is not waited for.
    let mut stream = server.connect();
    let head = "POST /fn/loop HTTP/1.1\r\nhost: test\r\ncontent-length: 100\r\nexpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("writes");
    let answer = read_answer(&mut stream).expect("an answer");
    assert_eq!((answer.status, answer.json()["code"].clone()), (503, json!("overloaded")));
    assert!(answer.header("retry-after").is_some());
    drop((running, waiting));
    wait_until("there is room again", || server.post("/fn/loop", body(2)).status == 200);
}
