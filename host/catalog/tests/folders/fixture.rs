//! Folders that tests fill.

use std::fs;
use std::path::PathBuf;

use sandmill_catalog::{FileLimits, FunctionSpec, ReadError, read_function};
use tempfile::TempDir;

const FILES: [(&str, &str); 5] = [
    ("model.onnx", "model"),
    ("plugin.wasm", "plugin"),
    ("sample.json", "{}"),
    ("labels.txt", "labels"),
    ("data/words.txt", "words"),
];

/// A folder `digits` with the files that the manifests below name.
pub(crate) struct Fixture(TempDir);

impl Fixture {
    pub(crate) fn new(manifest: impl AsRef<[u8]>) -> Self {
        let fixture = Self(tempfile::tempdir().expect("a folder"));
        fixture.add("digits", manifest);
        fixture
    }

    pub(crate) fn add(&self, name: &str, manifest: impl AsRef<[u8]>) -> PathBuf {
        let folder = self.0.path().join(name);
        fs::create_dir_all(folder.join("data")).expect("made");
        for (file, content) in FILES {
            fs::write(folder.join(file), content).expect("written");
        }
        fs::write(folder.join("function.toml"), manifest).expect("written");
        folder
    }

    /// A file below the fixture's root.
    pub(crate) fn put(&self, path: &str, content: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, content).expect("written");
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.0.path().to_owned()
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.0.path().join("digits")
    }

    pub(crate) fn read(&self) -> Result<FunctionSpec, ReadError> {
        read_function(&self.folder(), &FileLimits::default())
    }

    /// What a person is told, without the temporary folder's path.
    pub(crate) fn refusal(&self) -> Vec<String> {
        self.told(&self.read().expect_err("the folder is refused"))
    }

    pub(crate) fn told(&self, error: &ReadError) -> Vec<String> {
        let root = format!("{}/", self.0.path().display());
        error.to_string().replace(&root, "").lines().map(str::to_owned).collect()
    }
}

/// The manifest is refused with these lines and no others.
#[track_caller]
pub(crate) fn refused<T: AsRef<str>>(manifest: &str, expected: impl IntoIterator<Item = T>) {
    let expected: Vec<_> = expected.into_iter().map(|line| format!("digits/function.toml:{}", line.as_ref())).collect();
    assert_eq!(Fixture::new(manifest).refusal(), expected, "{manifest}");
}

/// What follows a manifest's first line is refused on line 2, in words that begin like this.
#[track_caller]
pub(crate) fn refused_below(first: &str, line: &str, expected: &str) {
    let told = Fixture::new(format!("{first}\n{line}")).refusal();
    let expected = format!("digits/function.toml:2: {expected}");
    assert!(told.len() == 1 && told[0].starts_with(&expected), "{told:?} is not {expected:?}");
}
