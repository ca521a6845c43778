//! Bad requests: each gets the right status and a JSON error that says what to mend, and the server goes on as before.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Instant;

use serde_json::json;

use crate::harness::{PATIENCE, Server, Shared, example, read_answer, root};

static SERVER: Shared<Server> = Shared::new(|| Server::start(&[example("digits"), example("angle")]));

/// For slow clients, which it finds out soon.
static IMPATIENT: Shared<Server> = Shared::new(|| Server::configured(IMPATIENCE, &[example("digits")]));

const IMPATIENCE: &str = "
[edge]
body_timeout_ms = 2000
write_timeout_ms = 2000
head_timeout_ms = 2000
";

const INFER: &str = "/v2/models/digits/infer";

/// The call is refused with this status, in words that contain all of these.
fn check(server: &Server, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8], status: u16, words: &[&str]) {
    let answer = server.call(method, path, headers, body);
    assert_eq!(answer.status, status, "{method} {path}: {}", String::from_utf8_lossy(&answer.body));
    let error = answer.error();
    for word in words {
        assert!(error.contains(word), "{method} {path}: `{error}` does not say `{word}`");
    }
    let root = root();
    assert!(!error.contains(root.to_str().expect("text")) && error.len() < 2000, "{error}");
}

#[test]
fn paths_and_functions_that_are_not_there() {
    let server = SERVER.get();
    check(&server, "GET", "/", &[], b"", 404, &["/fn/"]);
    check(&server, "GET", "/fn", &[], b"", 404, &[]);
    check(&server, "POST", "/fn/nothing", &[], b"{}", 404, &["nothing"]);
    check(&server, "POST", "/fn/NO_NAME", &[], b"{}", 404, &[]);
    check(&server, "POST", "/fn/%2e%2e%2fetc", &[], b"{}", 404, &[]);
    check(&server, "GET", "/v2/models/nothing", &[], b"", 404, &["nothing"]);
    check(&server, "POST", "/v2/models/digits/versions/2/infer", &[], b"{}", 404, &["2"]);
    check(&server, "POST", "/v2/models/digits/versions/99999999999999999999/infer", &[], b"{}", 404, &[]);
}

#[test]
fn wrong_methods() {
    let server = SERVER.get();
    for (method, path, allow) in [("GET", "/fn/digits", "POST"), ("DELETE", "/v2", "GET"), ("GET", INFER, "POST")] {
        let answer = server.call(method, path, &[], b"");
        assert_eq!(answer.status, 405, "{method} {path}");
        assert!(answer.header("allow").is_some_and(|methods| methods.contains(allow)), "{answer:?}");
        answer.error();
    }
}

#[test]
fn bodies_that_are_too_large() {
    let server = SERVER.get();
    // Announced: refused before it is read, and although the client goes on sending it sees why.
    check(&server, "POST", "/fn/digits", &[], &vec![b' '; 17 << 20], 413, &["bytes"]);
    // Not announced: counted as it comes. The rest is so little that it is read and forgotten before the answer.
    let mut stream = server.connect();
    stream.write_all(b"POST /fn/digits HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n").expect("sends");
    let chunk = [b"4000\r\n".as_slice(), &[b' '; 16 << 10], b"\r\n"].concat();
    stream.write_all(&[chunk.repeat(5), b"0\r\n\r\n".to_vec()].concat()).expect("sends");
    let answer = read_answer(&mut stream).expect("an answer");
    assert_eq!(answer.status, 413, "{answer:?}");
    assert!(answer.error().contains("65536 bytes"), "{answer:?}");
    check(&server, "POST", "/fn/digits", &[], b"{}", 400, &["x"]);
}

#[test]
fn bodies_that_the_plugins_refuse() {
    let server = SERVER.get();
    check(&server, "POST", "/fn/digits", &[], b"", 400, &[]);
    check(&server, "POST", "/fn/digits", &[], b"{\"x\": [1, 2", 400, &[]);
    check(&server, "POST", "/fn/digits", &[], b"{\"x\": [1, 2]}", 400, &["64"]);
    check(&server, "POST", "/fn/digits", &[], b"\xff\xfe", 400, &[]);
    check(&server, "POST", "/fn/angle", &[], b"short", 400, &["110592"]);
}

#[test]
fn tensors_that_do_not_fit() {
    let server = SERVER.get();
    let data = vec![0.5; 64];
    let cases = [
        (json!({"inputs": [{"name": "Y", "shape": [1, 64], "datatype": "FP32", "data": data}]}), vec!["`Y`", "`X`"]),
        (json!({"inputs": [{"name": "X", "shape": [1, 64], "datatype": "FP64", "data": data}]}), vec!["`X`", "FP64", "FP32"]),
        (json!({"inputs": [{"name": "X", "shape": [64], "datatype": "FP32", "data": data}]}), vec!["`X`", "[64]"]),
        (json!({"inputs": [{"name": "X", "shape": [1, 65], "datatype": "FP32", "data": data}]}), vec!["`X`", "axis 1"]),
        (json!({"inputs": [{"name": "X", "shape": [-1, 64], "datatype": "FP32", "data": data}]}), vec!["`X`", "axis 0"]),
        (json!({"inputs": [{"name": "X", "shape": [33, 64], "datatype": "FP32", "data": data}]}), vec!["`X`", "axis 0", "32"]),
        (
            json!({"inputs": [{"name": "X", "shape": [9_000_000_000_000_000_000_u64, 64], "datatype": "FP32", "data": data}]}),
            vec!["`X`"],
        ),
        (json!({"inputs": [{"name": "X", "shape": [2, 64], "datatype": "FP32", "data": data}]}), vec!["`X`"]),
        (json!({"inputs": [{"name": "X", "shape": [1, 64], "datatype": "FP99", "data": data}]}), vec!["`X`", "FP99"]),
        (json!({"inputs": []}), vec!["`X`"]),
        (
            json!({"inputs": [{"name": "X", "shape": [1, 64], "datatype": "FP32", "data": data}], "outputs": [{"name": "Z"}]}),
            vec!["Z"],
        ),
        (json!([]), vec![]),
        (json!({}), vec!["inputs"]),
    ];
    for (body, words) in cases {
        check(&server, "POST", INFER, &[], body.to_string().as_bytes(), 400, &words);
    }
}

#[test]
fn numbers_out_of_range() {
    let server = SERVER.get();
    for number in ["1e39", "\"1\"", "null", "[1]", "true"] {
        let rest = vec!["0"; 63].join(",");
        let body = format!(r#"{{"inputs":[{{"name":"X","shape":[1,64],"datatype":"FP32","data":[{number},{rest}]}}]}}"#);
        check(&server, "POST", INFER, &[], body.as_bytes(), 400, &["`X`"]);
    }
}

#[test]
fn malformed_json() {
    let server = SERVER.get();
    let deep = format!(r#"{{"inputs":{}"#, "[".repeat(10_000));
    for body in [&b"{"[..], b"{\"inputs\":", b"[1,", b"\xff", b"{} {}", deep.as_bytes()] {
        check(&server, "POST", INFER, &[], body, 400, &[]);
    }
}

#[test]
fn binary_bodies_that_lie() {
    let server = SERVER.get();
    let head = |size: i64| {
        json!({"inputs": [{"name": "X", "shape": [1, 64], "datatype": "FP32", "parameters": {"binary_data_size": size}}]})
            .to_string()
    };
    let good = head(256);
    let length = good.len().to_string();
    let beyond = (good.len() + 1000).to_string();
    let body = |tail: usize| [good.as_bytes(), &vec![0; tail]].concat();
    let name = "inference-header-content-length";
    check(&server, "POST", INFER, &[(name, &length)], &body(255), 400, &["`X`"]);
    check(&server, "POST", INFER, &[(name, &length)], &body(257), 400, &[]);
    check(&server, "POST", INFER, &[(name, &beyond)], &body(256), 400, &[]);
    for lie in ["-1", "x", "", "99999999999999999999999", "3"] {
        check(&server, "POST", INFER, &[(name, lie)], &body(256), 400, &[]);
    }
    check(&server, "POST", INFER, &[], &body(256), 400, &[]);
    for size in [-1, 0, 255, i64::MAX] {
        let head = head(size);
        let all = [head.as_bytes(), &[0; 256]].concat();
        check(&server, "POST", INFER, &[(name, &head.len().to_string())], &all, 400, &["`X`"]);
    }
}

#[test]
fn a_client_that_sends_a_byte_now_and_then() {
    let server = IMPATIENT.get();
    let mut stream = server.connect();
    stream.write_all(b"POST /fn/digits HTTP/1.1\r\nhost: test\r\ncontent-length: 1000\r\n\r\n").expect("sends the head");
    let start = Instant::now();
    let mut writer = stream.try_clone().expect("clones");
    // One byte every 50 ms: always some progress, never an end.
    let drip = std::thread::spawn(move || {
        while start.elapsed() < PATIENCE && writer.write_all(b" ").is_ok() {
            std::thread::park_timeout(std::time::Duration::from_millis(50));
        }
    });
    let answer = read_answer(&mut stream).expect("an answer");
    assert_eq!(answer.status, 408, "{answer:?}");
    answer.error();
    stream.shutdown(Shutdown::Both).expect("closes");
    drip.join().expect("ends");
}

#[test]
fn a_client_that_never_ends_its_head() {
    let server = IMPATIENT.get();
    let mut stream = server.connect();
    stream.write_all(b"POST /fn/digits HTTP/1.1\r\nhost: te").expect("sends");
    let mut rest = Vec::new();
    let _reset_counts_too = stream.read_to_end(&mut rest);
    assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&rest));
}

#[test]
fn a_client_that_never_reads_is_closed() {
    let server = IMPATIENT.get();
    // Answers of the metadata route, asked for without end and never read: the server's buffers fill, then it gives up.
    let mut stream = server.connect();
    let asked = b"GET /v2/models/digits HTTP/1.1\r\nhost: test\r\n\r\n".repeat(1000);
    let start = Instant::now();
    while stream.write_all(&asked).is_ok() {
        assert!(start.elapsed() < PATIENCE, "the server goes on taking requests");
    }
    check(&server, "POST", "/fn/digits", &[], b"{}", 400, &["x"]);
}
