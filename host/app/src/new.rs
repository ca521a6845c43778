//! `sandmill new`: a function folder to begin with, made of the templates in this binary. Knows nothing of how they are built.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, bail};
use sandmill_domain::FunctionName;
use serde_json::json;

use crate::cli::{Language, NewOptions};
use crate::report::told;

/// A file's path in the new folder, and what is in it.
type File = (&'static str, &'static [u8]);

macro_rules! templates {
    ($($path:literal: $from:literal),* $(,)?) => {
        &[$(($path, include_bytes!(concat!("../templates/", $from)))),*]
    };
}

macro_rules! sdk {
    ($($name:literal),* $(,)?) => {
        &[$((concat!("sdk/rust/src/", $name), include_bytes!(concat!("../../../guest-sdk/rust/src/", $name)))),*]
    };
}

/// What all languages have.
const COMMON: &[File] = templates! {
    "function.toml": "common/function.toml",
    "model.onnx": "common/model.onnx",
    "sample.json": "common/sample.json",
    "wit/v0.1/plugin.wit": "../../../wit/v0.1/plugin.wit",
};

const RUST: &[File] = templates! {
    "Cargo.toml": "rust/Cargo.toml",
    "README.md": "rust/README.md",
    "src/lib.rs": "rust/src/lib.rs",
    ".gitignore": "rust/gitignore",
    "sdk/rust/Cargo.toml": "rust/sdk.toml",
};

/// The SDK goes with the project: nobody needs Sandmill's sources to write a plugin, and what it was begun with it keeps.
const SDK: &[File] = sdk![
    "bindings.rs",
    "config.rs",
    "dtype.rs",
    "error.rs",
    "export.rs",
    "init.rs",
    "lib.rs",
    "log.rs",
    "model.rs",
    "models.rs",
    "prepared.rs",
    "request.rs",
    "response.rs",
    "tensor.rs",
    "tensor_tests.rs",
    "testing.rs",
];

const JS: &[File] = templates! {
    "package.json": "js/package.json",
    "README.md": "js/README.md",
    "plugin.js": "js/plugin.js",
    "plugin.test.js": "js/plugin.test.js",
    ".gitignore": "js/gitignore",
    ".npmrc": "js/npmrc",
};

const PYTHON: &[File] = templates! {
    "requirements.txt": "python/requirements.txt",
    "README.md": "python/README.md",
    "build.sh": "python/build.sh",
    "plugin.py": "python/plugin.py",
    "spam.py": "python/spam.py",
    "test_spam.py": "python/test_spam.py",
    ".gitignore": "python/gitignore",
};

/// `sandmill new`
pub(crate) fn run(options: &NewOptions, json: bool) -> Result<()> {
    let NewOptions { folder, lang } = options;
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name = FunctionName::new(name)?;
    make(folder, &name, *lang)?;
    let files: Vec<_> = files(*lang).map(|(path, _)| path).collect();
    let shown = folder.display();
    told(json, &json!({ "function": name, "folder": shown.to_string(), "files": files }), || {
        format!("{shown} has a function `{name}` to begin with; next:\n{}", next(*lang, folder))
    });
    Ok(())
}

fn files(lang: Language) -> impl Iterator<Item = &'static File> {
    let own = match lang {
        Language::Rust => [RUST, SDK],
        Language::Js => [JS, &[]],
        Language::Python => [PYTHON, &[]],
    };
    COMMON.iter().chain(own.into_iter().flatten())
}

fn make(folder: &Path, name: &FunctionName, lang: Language) -> Result<()> {
    if let Err(error) = fs::create_dir(folder) {
        match error.kind() {
            ErrorKind::AlreadyExists => bail!("{} is there already: give another name", folder.display()),
            _ => return Err(error).with_context(|| format!("cannot make {}", folder.display())),
        }
    }
    for (path, content) in files(lang) {
        let path = folder.join(path);
        let trouble = || format!("cannot write {}", path.display());
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(trouble)?;
        }
        match str::from_utf8(content) {
            Ok(text) => fs::write(&path, filled(text, name)).with_context(trouble)?,
            Err(_) => fs::write(&path, content).with_context(trouble)?,
        }
    }
    Ok(())
}

fn filled(text: &str, name: &FunctionName) -> String {
    text.replace("{{name}}", name.as_str()).replace("{{version}}", env!("CARGO_PKG_VERSION"))
}

fn next(lang: Language, folder: &Path) -> String {
    let folder = folder.display();
    let build = match lang {
        Language::Rust => format!("  sandmill build {folder}"),
        Language::Js => format!("  cd {folder} && npm install && npm run build && cd -"),
        Language::Python => {
            format!("  cd {folder} && python3 -m venv .venv && .venv/bin/pip install -r requirements.txt && sh build.sh && cd -")
        }
    };
    format!("{build}\n  sandmill check {folder}\n  sandmill deploy {folder}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn root() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
    }

    #[test]
    fn the_whole_sdk_goes_with_a_project() {
        let there =
            fs::read_dir(root().join("guest-sdk/rust/src")).expect("a folder").map(|entry| entry.expect("read").file_name());
        let there: BTreeSet<_> = there.map(|name| format!("sdk/rust/src/{}", name.to_str().expect("UTF-8"))).collect();
        assert_eq!(SDK.iter().map(|(path, _)| (*path).to_owned()).collect::<BTreeSet<_>>(), there);
    }

    /// What the SDK needs is written once more in its template: with the same versions and features.
    #[test]
    fn the_sdk_needs_what_it_needs_here() {
        let read = |path: &str| -> toml::Table { fs::read_to_string(root().join(path)).expect("a text").parse().expect("TOML") };
        let (shared, own) = (read("Cargo.toml"), read("guest-sdk/rust/Cargo.toml"));
        let template = read("host/app/templates/rust/sdk.toml");
        let names: Vec<_> = own["dependencies"].as_table().expect("a table").keys().collect();
        let copied = template["dependencies"].as_table().expect("a table");
        assert_eq!(copied.keys().collect::<Vec<_>>(), names);
        for (name, copy) in copied {
            assert_eq!(*copy, shared["workspace"]["dependencies"][name], "{name}");
        }
        assert_eq!(template["package"]["edition"], shared["workspace"]["package"]["edition"]);
    }

    #[test]
    fn names_are_filled_in() {
        for lang in [Language::Rust, Language::Js, Language::Python] {
            let parent = tempfile::tempdir().expect("a folder");
            let folder = parent.path().join("is-it-spam");
            let name = FunctionName::new("is-it-spam").expect("a name");
            make(&folder, &name, lang).expect("made");
            for (path, _) in files(lang) {
                let bytes = fs::read(folder.join(path)).expect("it is there");
                let text = String::from_utf8_lossy(&bytes);
                assert!(!text.contains("{{name}}") && !text.contains("{{version}}"), "{path}");
            }
            assert!(fs::read_to_string(folder.join("function.toml")).expect("a text").contains("name = \"is-it-spam\""));
            let error = make(&folder, &name, lang).expect_err("it is there").to_string();
            assert!(error.contains("is there already"), "{error}");
        }
    }
}
