//! Several hosts on one bucket of a server that speaks S3, by another hand: moto, from the tests' virtual environment.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Answer, Server, Workshop, root, wait_until};
use crate::store::{ask, deploy};

struct Bucket {
    process: Child,
    endpoint: String,
}

impl Bucket {
    fn start() -> Self {
        let python = root().join(".sandmill/venv/bin/python");
        assert!(python.exists(), "NO BUCKET WAS TRIED: {} is missing: run `make setup-tests`", python.display());
        let script = root().join("host/catalog/tests/store/s3_server.py");
        let mut process =
            Command::new(python).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python runs");
        let mut port = String::new();
        BufReader::new(process.stdout.take().expect("piped")).read_line(&mut port).expect("a line");
        Self { process, endpoint: format!("http://127.0.0.1:{}", port.trim()) }
    }

    fn host(&self, shop: &Workshop) -> Server {
        let config = format!(
            "[store]\nlocation = 's3://bucket'\nwork = {:?}\npoll_ms = 500\nchanges_per_minute_max = 100000\n",
            shop.path().join("work")
        );
        let variables = [
            ("AWS_ENDPOINT", self.endpoint.as_str()),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_ACCESS_KEY_ID", "tests"),
            ("AWS_SECRET_ACCESS_KEY", "tests"),
            ("AWS_REGION", "us-east-1"),
        ];
        Server::with_environment(&config, &variables)
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _reaped = self.process.wait();
    }
}

/// A longer run than there is time for each time: `SANDMILL_TEST_CHANGES=1000 cargo test …`.
fn changes() -> usize {
    std::env::var("SANDMILL_TEST_CHANGES").ok().and_then(|changes| changes.parse().ok()).unwrap_or(30)
}

/// Until it is done: one that lost too often against others may be asked again.
fn insist(attempt: impl Fn() -> Answer) -> Answer {
    let begun = Instant::now();
    loop {
        let answer = attempt();
        if answer.status != 409 || begun.elapsed() > Duration::from_secs(60) {
            return answer;
        }
    }
}

#[test]
fn three_hosts_that_write_at_once_have_one_history() {
    let (bucket, shop) = (Bucket::start(), Workshop::new());
    let hosts = [(); 3].map(|()| bucket.host(&shop));
    deploy(&hosts[0], "/v1/functions/echo", 1);
    let each = changes().div_ceil(hosts.len());
    thread::scope(|scope| {
        for (writer, host) in hosts.iter().enumerate() {
            scope.spawn(move || {
                for number in 0..each {
                    // One function for each writer: they share the log, and nothing else.
                    let release = u32::try_from(number + 1).expect("small");
                    let path = format!("/v1/functions/echo-{writer}");
                    let archive = crate::store::archive(&crate::store::manifest(release));
                    let answer = insist(|| crate::store::put(host, &path, &archive));
                    assert!(matches!(answer.status, 200 | 201), "{answer:?}\n{}", host.log());
                }
            });
        }
    });
    let written = Instant::now();
    let state = |host: &Server| {
        let answer = ask(host, "GET", "/v1/functions", "");
        let revision = answer.header("etag").expect("a revision").to_owned();
        let mut functions = answer.json();
        for function in functions["functions"].as_array_mut().expect("a list") {
            function.as_object_mut().expect("an object").remove("serving");
        }
        (revision, functions)
    };
    wait_until("all hosts know the same", || {
        let states = hosts.each_ref().map(state);
        states[0] == states[1] && states[1] == states[2]
    });
    println!("equal after {:?}", written.elapsed());
    let total = 1 + hosts.len() * each;
    let revision = state(&hosts[0]).0;
    assert_eq!(revision, format!("\"{total}\""), "each change once, and none lost");
    let mut after = 0;
    loop {
        let page = ask(&hosts[2], "GET", &format!("/v1/audit?after={after}"), "").json();
        for entry in page["entries"].as_array().expect("a list") {
            after += 1;
            assert_eq!(entry["revision"], after, "one history without a gap");
        }
        if page["more"] == Value::Bool(false) {
            break;
        }
    }
    assert_eq!(after, total as u64);
    wait_until("all hosts serve the last release of each", || {
        hosts
            .iter()
            .all(|host| (0..3).all(|writer| host.post(&format!("/fn/echo-{writer}"), "").text() == format!("{each} {each}")))
    });
}
