//! How much of everything there may be, in a record and in a state; and the forms of what is neither a name nor a number.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;

use super::refusal::Refusal;
use crate::store::{BlobRef, Entry, SCHEMA};

/// A record, in bytes.
pub const RECORD_BYTES_MAX: usize = 1 << 20;
/// Files of a release or a model.
pub const FILES_MAX: usize = 256;
/// A path of one, in bytes.
pub(super) const PATH_BYTES_MAX: usize = 255;
/// A manifest, in bytes.
pub(super) const MANIFEST_BYTES_MAX: usize = 256 << 10;
/// All manifests of a tenant's kept releases, in bytes: every host has them in memory.
pub(super) const MANIFESTS_BYTES_MAX: usize = 16 << 20;
/// What is known of a plugin or a model, in bytes.
pub const ABOUT_BYTES_MAX: usize = 16 << 10;
/// A text for people, in bytes.
pub(super) const TEXT_BYTES_MAX: usize = 255;
/// Versions that a release is made of.
pub(super) const PINS_MAX: usize = 64;
/// Versions of plugins, and as many of models.
pub(super) const VERSIONS_MAX: usize = 1000;
/// Functions of a tenant.
pub(super) const FUNCTIONS_MAX: usize = 1000;
/// Names that functions of a tenant have ever had: their last numbers are remembered.
pub(super) const FUNCTION_NAMES_MAX: usize = 10_000;
/// Releases of a function that are kept, the current one among them.
pub(super) const RELEASES_KEPT: usize = 3;
/// Keys of a tenant, or of operators.
pub(super) const KEYS_MAX: usize = 1000;
/// Tenants, removed ones among them.
pub(super) const TENANTS_MAX: usize = 10_000;
/// Uploads condemned by one record.
pub(crate) const CONDEMNED_MAX: usize = 1000;
/// Condemned uploads that are remembered one by one; those before them are refused by their age.
pub(super) const CONDEMNED_KEPT: usize = 10_000;

/// Room for one more of `count`.
pub(super) fn room(what: &'static str, count: usize, max: usize) -> Result<(), Refusal> {
    if count < max { Ok(()) } else { Err(Refusal::TooMany { what, max }) }
}

pub(super) fn at_most(what: &'static str, count: usize, max: usize) -> Result<(), Refusal> {
    if count <= max { Ok(()) } else { Err(Refusal::TooMany { what, max }) }
}

pub(super) fn length(what: &'static str, text: &str, max: usize) -> Result<(), Refusal> {
    if text.len() <= max { Ok(()) } else { Err(Refusal::TooLong { what, max }) }
}

/// What all records have.
pub(super) fn check_entry<C>(entry: &Entry<C>) -> Result<(), Refusal> {
    if entry.v != SCHEMA {
        return Err(malformed("the record's version", "it is that of the code that applies it"));
    }
    text("who made the change", &entry.by)?;
    text("where it came from", &entry.from)
}

/// A line for people.
pub(super) fn text(what: &'static str, text: &str) -> Result<(), Refusal> {
    length(what, text, TEXT_BYTES_MAX)?;
    if text.chars().any(char::is_control) {
        return Err(malformed(what, "it is one line without control characters"));
    }
    Ok(())
}

/// Of no meaning here, but what reads it must not stumble.
pub(super) fn about(text: &str) -> Result<(), Refusal> {
    length("what is known of it", text, ABOUT_BYTES_MAX)?;
    let json = serde_json::from_str::<IgnoredAny>(text).map(drop);
    json.map_err(|_| malformed("what is known of it", "it is JSON"))
}

pub(super) fn files(files: &BTreeMap<String, BlobRef>) -> Result<(), Refusal> {
    at_most("files", files.len(), FILES_MAX)?;
    files.keys().try_for_each(|path| check_path(path))
}

/// Someone will make a file of this name below a folder of theirs.
fn check_path(path: &str) -> Result<(), Refusal> {
    length("a file's path", path, PATH_BYTES_MAX)?;
    let plain = |part: &str| !matches!(part, "" | "." | "..");
    if path.split('/').all(plain) && !path.contains('\\') && !path.chars().any(char::is_control) {
        return Ok(());
    }
    let shown: String = path.chars().filter(|letter| !letter.is_control()).take(100).collect();
    Err(malformed(format!("the path `{shown}`"), "it is relative, with `/` between its parts and none of them `.` or `..`"))
}

pub(super) fn malformed(what: impl Into<String>, why: &'static str) -> Refusal {
    Refusal::Malformed { what: what.into(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_where_they_are_put() {
        for good in ["model.onnx", "data/words.txt", "a b", "ä", "...", "a/.hidden"] {
            assert_eq!(check_path(good), Ok(()), "{good:?}");
        }
        let long = "a".repeat(256);
        for bad in ["", "/etc/passwd", "../a", "a/../b", "a//b", "a/", ".", "a\\b", "a\0b", "a\nb", long.as_str()] {
            assert!(check_path(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_known_is_json() {
        assert_eq!(about("{\"shape\":\"handler\"}"), Ok(()));
        assert!(about("").is_err() && about("{").is_err() && about("{} {}").is_err());
        assert!(about(&format!("\"{}\"", "a".repeat(ABOUT_BYTES_MAX))).is_err());
    }
}
