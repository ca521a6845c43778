//! Clients of others, unchanged: what they expect of a server is the specification.

use std::process::Command;

use crate::harness::{Server, example, root};

#[test]
fn tritonclient_over_http() {
    let python = root().join(".sandmill/venv/bin/python");
    assert!(python.exists(), "{} is missing: run `make setup-tests`", python.display());
    let server = Server::start(&[example("digits")]);
    let output = Command::new(python)
        .arg(root().join("tests/clients/triton_client.py"))
        .arg(server.address.to_string())
        .output()
        .expect("python runs");
    assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
}
