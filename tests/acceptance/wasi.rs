//! A plugin built for wasm32-wasip2 imports WASI: it loads without any grant, and what it is not granted it cannot use.

use std::path::PathBuf;
use std::process::Command;

use crate::harness::{Server, Workshop, root, run, wait_until};

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
        ("random", "wasi:random/random"),
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

#[test]
fn what_is_granted_is_there() {
    let shop = Workshop::new();
    let manifest = r#"
assets = ["sub/labels.txt"]
[plugin]
path = "plugin.wasm"
[grants]
wall_clock = true
monotonic_clock = true
randomness = true
asset_files = true
[grants.environment]
LANG = "de"
"#;
    shop.write("std/function.toml", manifest);
    shop.write("std/sub/labels.txt", "cats and dogs");
    let function = shop.write("std/plugin.wasm", std::fs::read(build()).expect("cargo built it"));
    let server = Server::start(&[function.parent().expect("a folder").to_owned()]);
    let ask = |path: &str| {
        let answer = server.post(&format!("/fn/std/{path}"), b"");
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.text()
    };
    assert_eq!(ask("environment"), "1 0");
    assert_eq!(ask("variable"), "de");
    assert_eq!(ask("assets"), "sub cats and dogs true false false");
    assert_eq!(ask("assets"), "sub cats and dogs true false false", "nothing was changed");
    for path in ["wall", "monotonic", "random"] {
        assert_ne!(ask(path), ask(path), "{path}");
    }
    assert_eq!(server.post("/fn/std/exit", b"").status, 500);
}

#[test]
fn a_host_grants_no_more_than_it_is_configured_to() {
    let shop = Workshop::new();
    shop.write(
        "std/function.toml",
        "[plugin]\npath = \"plugin.wasm\"\n[grants]\nwall_clock = true\nhttp = [\"api.example.com\"]\n",
    );
    let function = shop.write("std/plugin.wasm", std::fs::read(build()).expect("cargo built it"));
    let config = shop.write("sandmill.toml", "[sandbox.grants]\nwall_clock = false\n");
    let folder = function.parent().expect("a folder").to_str().expect("UTF-8");
    let checked = run(&["check", folder, "--config", config.to_str().expect("UTF-8")]);
    let words = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(!checked.status.success(), "{words}");
    assert!(words.contains("this host does not grant: wall_clock, http to api.example.com"), "{words}");
}
