//! The contract on a server that speaks S3, by another hand: moto, from the tests' virtual environment.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::{env, process};

use sandmill_catalog::store::{Store, StoreError, StoreOptions};

use crate::contract;
use crate::fixture::Backend;

/// Set for the child, together with what the client reads from the environment.
const BUCKET: &str = "SANDMILL_TEST_BUCKET";

struct Server {
    process: Child,
    port: u16,
}

impl Server {
    fn start() -> Self {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = here.join("../../.sandmill/venv/bin/python");
        assert!(python.exists(), "THE STORE WAS NOT TRIED ON S3: {} is missing: run `make setup-tests`", python.display());
        let script = here.join("tests/store/s3_server.py");
        let mut process =
            Command::new(python).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python runs");
        let mut line = String::new();
        let output = process.stdout.take().expect("piped");
        BufReader::new(output).read_line(&mut line).expect("a line");
        let port = line.trim().parse().expect("the server says its port");
        Self { process, port }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The client takes its credentials from the environment, so they are a child's.
fn run(test: &str, port: u16) -> process::Output {
    let mut command = Command::new(env::current_exe().expect("known"));
    command.args(["--exact", test, "--nocapture"]);
    command.env(BUCKET, "s3://bucket").env("AWS_ENDPOINT", format!("http://127.0.0.1:{port}")).env("AWS_ALLOW_HTTP", "true");
    command.env("AWS_ACCESS_KEY_ID", "tests").env("AWS_SECRET_ACCESS_KEY", "tests").env("AWS_REGION", "us-east-1");
    command.output().expect("started")
}

fn succeeds(test: &str, port: u16) {
    let output = run(test, port);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && told.contains("the child is content"),
        "{told}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_server_keeps_the_contract() {
    let server = Server::start();
    succeeds("s3::a_child_with_a_bucket", server.port);
}

#[test]
fn a_server_that_is_not_there_is_told() {
    let gone = Server::start().port;
    succeeds("s3::a_child_without_a_server", gone);
}

/// Does nothing but in a child.
#[tokio::test(flavor = "multi_thread")]
async fn a_child_with_a_bucket() {
    let Ok(bucket) = env::var(BUCKET) else { return };
    contract::keep(|name| Backend::Cloud(format!("{bucket}/{name}"))).await;
    let missing = Store::open("s3://no-such-bucket/x", StoreOptions::default()).await;
    assert!(matches!(missing, Err(StoreError::Location { .. })), "{missing:?}");
    println!("the child is content");
}

/// Does nothing but in a child.
#[tokio::test]
async fn a_child_without_a_server() {
    let Ok(bucket) = env::var(BUCKET) else { return };
    let options = StoreOptions { retries: 1, ..StoreOptions::default() };
    let error = Store::open(&bucket, options).await.expect_err("nobody answers");
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("format.json in s3://bucket: the store does not answer"), "{error}");
    println!("the child is content");
}
