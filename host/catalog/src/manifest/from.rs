//! `from`: a plugin or a model by its name in a tenant's catalog, in the place of a file of the folder. Looks nothing up.

use std::fmt;
use std::path::Path;

use sandmill_domain::control::Version;
use serde::Deserialize;

use super::bundle::FilePath;
use crate::Digest;
use crate::document::{Document, Problem};

/// Where what was named by `from` lies in a function's folder.
pub(crate) const UPLOADS: &str = ".from";

/// Whether a release's file, by its path in the function's folder, was named by `from` and not sent with the folder.
pub fn is_upload(path: impl AsRef<Path>) -> bool {
    path.as_ref().starts_with(UPLOADS)
}

/// Begins a digest.
const DIGEST: &str = "sha256:";

/// What `from` may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UploadKind {
    /// A component.
    Plugin,
    /// A model, with what belongs to it.
    Model,
}

impl UploadKind {
    /// The one file of it that is read, by its path in its folder.
    pub const fn file(self) -> &'static str {
        match self {
            Self::Plugin => "plugin.wasm",
            Self::Model => "model.onnx",
        }
    }

    const fn folder(self) -> &'static str {
        match self {
            Self::Plugin => "plugins",
            Self::Model => "models",
        }
    }
}

/// In texts.
impl fmt::Display for UploadKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plugin => "plugin",
            Self::Model => "model",
        })
    }
}

/// A value of `from`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub enum UploadName {
    /// A version: `name@version`.
    Version(Version),
    /// Any upload of these bytes: `sha256:` and 64 hexadecimal digits.
    Digest(Digest),
}

impl UploadName {
    /// Where it lies in the folder of a function that names it so.
    pub fn folder(&self, kind: UploadKind) -> String {
        format!("{UPLOADS}/{}/{self}", kind.folder())
    }

    pub(crate) fn path(&self, kind: UploadKind) -> FilePath {
        FilePath(format!("{}/{}", self.folder(kind), kind.file()).into())
    }
}

impl fmt::Display for UploadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => version.fmt(f),
            Self::Digest(digest) => write!(f, "{DIGEST}{digest}"),
        }
    }
}

impl TryFrom<String> for UploadName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if let Some(digits) = text.strip_prefix(DIGEST) {
            return Digest::try_from(digits.to_owned()).map(Self::Digest).map_err(|error| error.to_string());
        }
        if !text.contains('@') {
            let shown: String = text.chars().take(200).collect();
            return Err(format!("expected `name@version` or `{DIGEST}` and 64 hexadecimal digits, found {shown:?}"));
        }
        text.parse().map(Self::Version)
    }
}

/// Whether exactly one of `path` and `from` is written in this table, right or wrong in itself.
pub(super) fn check(document: &Document<'_>, table: &[&str]) -> Option<Problem> {
    let [path, from] = ["path", "from"].map(|key| [table, &[key]].concat());
    match (document.contains(&path), document.contains(&from)) {
        (true, true) => Some(document.problem(&from, "`path` and `from` exclude each other: leave out one of them")),
        (false, false) => Some(document.problem(&path, "this key is missing, or `from`, which names an upload")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_shown() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for good in ["resize@1.2.0", "a@b", digest.as_str()] {
            assert_eq!(UploadName::try_from(good.to_owned()).map(|name| name.to_string()), Ok(good.to_owned()));
        }
        let cases = [
            ("", "expected `name@version` or `sha256:` and 64 hexadecimal digits, found \"\""),
            ("resize", "expected `name@version`"),
            ("@1", "`` does not serve"),
            ("resize@", "`` does not serve"),
            ("resize@1@2", "`1@2` does not serve"),
            ("../x@1", "`../x` does not serve"),
            ("Resize@1", "`Resize` does not serve"),
            ("resize@../1", "`../1` does not serve"),
            ("sha256:", "expected a SHA-256: 64 hexadecimal digits"),
            ("sha256:0a", "expected a SHA-256: 64 hexadecimal digits"),
        ];
        for (bad, expected) in cases {
            let told = UploadName::try_from(bad.to_owned()).expect_err(bad);
            assert!(told.starts_with(expected), "{told}");
        }
    }

    #[test]
    fn each_has_a_place_of_its_own() {
        let of = |text: &str| UploadName::try_from(text.to_owned()).expect("a name");
        assert_eq!(of("resize@1").path(UploadKind::Plugin).name(), ".from/plugins/resize@1/plugin.wasm");
        assert_eq!(of("resize@1").path(UploadKind::Model).name(), ".from/models/resize@1/model.onnx");
        let digest = of(&format!("sha256:{}", "0A".repeat(32)));
        assert_eq!(digest.folder(UploadKind::Model), format!(".from/models/sha256:{}", "0a".repeat(32)));
    }
}
