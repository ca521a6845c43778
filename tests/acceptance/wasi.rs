//! A plugin built for wasm32-wasip2 imports WASI: it loads without any grant, and what it is not granted it cannot use.

use std::path::PathBuf;
use std::process::Command;

use crate::harness::{Server, Workshop, root, wait_until};

/// The component that cargo makes of `tests/guests/std`.
fn build() -> PathBuf {
    // A folder of its own: cargo builds for another target here while the tests of this one may hold the lock of theirs.
    let target = root().join("target/guests");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--locked", "--release", "--target", "wasm32-wasip2", "-p", "sandmill-guest-std", "--target-dir"])
        .arg(&target)
        .current_dir(root())
        .status()
        .expect("cargo runs");
    assert!(built.success());
    target.join("wasm32-wasip2/release/sandmill_guest_std.wasm")
}

#[test]
fn the_standard_library_finds_no_system() {
    let shop = Workshop::new();
    shop.write("std/function.toml", "[plugin]\npath = \"plugin.wasm\"\n");
    let component = std::fs::read(build()).expect("cargo built it");
    let function = shop.write("std/plugin.wasm", component);
    let server = Server::start(&[function.parent().expect("a folder").to_owned()]);

    for (path, expected) in [("map", "2"), ("print", "printed"), ("environment", "0 0"), ("files", "true true")] {
        let answer = server.post(&format!("/fn/std/{path}"), b"");
        assert_eq!((answer.status, answer.text().as_str()), (200, expected), "{path}");
    }
    for (path, named) in [
        ("monotonic", "wasi:clocks/monotonic-clock"),
        ("wall", "wasi:clocks/wall-clock"),
        ("exit", "wasi:cli/exit"),
        ("panic", "trap"),
    ] {
        let answer = server.post(&format!("/fn/std/{path}"), b"");
        assert_eq!(answer.status, 500, "{path}: {answer:?}");
        assert!(answer.error().contains(named), "{path}: {}", answer.error());
    }
    assert_eq!(server.post("/fn/std/nothing", b"").status, 404);
    for line in ["a line on standard output", "a line on standard error", "a plugin's bug"] {
        // A thread of its own writes the log, so it may come a moment after the answer.
        wait_until(line, || server.log().contains(line));
    }
}
