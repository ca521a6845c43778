//! What changes between two states of a function folder, in lines: its manifest, and files with their sizes.

use std::collections::BTreeMap;

use super::words::bytes;

/// A file that is not the same in both: its size before and after, none where it is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) before: Option<u64>,
    pub(super) after: Option<u64>,
}

/// Nothing if nothing changes.
pub(super) fn describe(manifest: &[String], files: &BTreeMap<String, Change>) -> Vec<String> {
    let mut lines = Vec::new();
    if !manifest.is_empty() {
        lines.push("  function.toml".to_owned());
        lines.extend(manifest.iter().map(|line| format!("    {line}")));
    }
    lines.extend(files.iter().map(|(path, change)| format!("  {path}: {}", file(*change))));
    lines
}

fn file(change: Change) -> String {
    match (change.before, change.after) {
        (None, Some(after)) => format!("new, {}", bytes(after)),
        (Some(before), None) => format!("gone, {}", bytes(before)),
        (Some(before), Some(after)) if before == after => format!("changed, {}", bytes(after)),
        (Some(before), Some(after)) => format!("changed, {} → {}", bytes(before), bytes(after)),
        (None, None) => "in neither".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes() {
        let change = |before, after| Change { before, after };
        let files = [
            ("a", change(None, Some(3))),
            ("b", change(Some(2048), None)),
            ("c", change(Some(1), Some(1))),
            ("d", change(Some(1), Some(1024))),
        ];
        let files = files.map(|(name, change)| (name.to_owned(), change)).into();
        let expected = [
            "  function.toml",
            "    -x = 1",
            "    +x = 2",
            "  a: new, 3 B",
            "  b: gone, 2.0 KiB",
            "  c: changed, 1 B",
            "  d: changed, 1 B → 1.0 KiB",
        ];
        assert_eq!(describe(&["-x = 1".to_owned(), "+x = 2".to_owned()], &files), expected);
        assert!(describe(&[], &BTreeMap::new()).is_empty());
    }
}
