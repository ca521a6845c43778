//! Files that are not the library: each is a clear error. In a process of its own, which the last of them spoils.
#![allow(clippy::unwrap_used, reason = "a failed expectation is how a test speaks")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sandmill_engine::{Engine, EngineError, EngineOptions};

/// A library that says it is of this version, and has no interface to give.
fn compile(folder: &Path, name: &str, base: &str) -> PathBuf {
    let source = folder.join(format!("{name}.c"));
    let library = folder.join(format!("{name}.so"));
    let code = format!(
        "static const void *api(unsigned version) {{ return 0; }}\n\
         static const char *version(void) {{ return \"1.99.0\"; }}\n\
         static const char *old(void) {{ return \"1.30.2\"; }}\n\
         static const void *base[] = {{ api, version }}, *old_base[] = {{ api, old }};\n\
         const void *OrtGetApiBase(void) {{ return {base}; }}\n"
    );
    fs::write(&source, code).unwrap();
    let status = Command::new("cc").args(["-shared", "-fPIC", "-w", "-o"]).arg(&library).arg(&source).status().unwrap();
    assert!(status.success(), "the C compiler that links Rust also compiles C");
    library
}

fn refusal(library: &Path) -> EngineError {
    Engine::start(library, &EngineOptions::default()).err().unwrap_or_else(|| panic!("{} was taken", library.display()))
}

#[test]
fn what_is_not_the_library_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.so");
    fs::write(&text, "not a library").unwrap();
    let old = compile(folder.path(), "old", "old_base");
    let cases = [
        (folder.path().join("missing.so"), "No such file"),
        (folder.path().to_owned(), "directory"),
        (text, "file too short"),
        (compile(folder.path(), "empty", "0"), "is_null"),
        (old, "it is version 1.30.2, and 1.31 is the oldest that serves"),
        // This one is loaded before it turns out to be useless, and a process loads one library only.
        (compile(folder.path(), "hollow", "base"), "Failed to initialize ORT API"),
    ];
    for (library, expected) in cases {
        let text = refusal(&library).to_string();
        assert!(text.contains(expected) && text.contains("`make setup`"), "{text}");
    }
    assert!(matches!(refusal(&folder.path().join("old.so")), EngineError::AnotherLibrary { .. }));
}
