//! TOML documents written by people: read into plain types, with every error in one go, each with its line and key.
//!
//! Serves function folders and the binary's own configuration; knows the keys of neither.

use std::fmt;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::node::{Cause, Node, Refused, show_key};

/// The largest document, in bytes.
pub(crate) const DOCUMENT_BYTES_MAX: usize = 256 << 10;

/// The most problems told of one document: each costs another reading of it.
const PROBLEMS_MAX: usize = 100;

/// Something wrong in a document; shown as `line 7: model.batch_max: expected an integer, found a string`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    /// The dotted path of the key; empty if it is about no key.
    pub key: String,
    /// Lower case, no full stop.
    pub message: String,
}

impl Problem {
    /// A problem at a byte of the text.
    pub(crate) fn at(text: &str, offset: usize, key: String, message: impl Into<String>) -> Self {
        let before = &text[..text.floor_char_boundary(offset)];
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        Self { line, column: before[line_start..].chars().count() + 1, key, message: message.into() }
    }

    /// The key and the message.
    pub(crate) fn text(&self) -> String {
        let separator = if self.key.is_empty() { "" } else { ": " };
        format!("{}{separator}{}", self.key, self.message)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.text())
    }
}

/// Reads a document into a type whose structs all have `#[serde(deny_unknown_fields)]` and whose enums are plain words.
///
/// # Errors
/// Every unknown key and every value that does not fit, the first missing key of each table, in the order of the text, 100
/// at most. A document that is no TOML, or larger than 256 KiB, has that one problem.
pub fn read_document<T: DeserializeOwned>(text: &str) -> Result<T, Vec<Problem>> {
    let document = Document::parse(text).map_err(|problem| vec![problem])?;
    match document.read() {
        (Some(value), problems) if problems.is_empty() => Ok(value),
        (_, problems) => Err(problems),
    }
}

/// A parsed document, for readers that have rules across keys and want to say where they are broken. Without `Debug`: there may
/// be secrets in it.
pub struct Document<'a> {
    text: &'a str,
    root: DeValue<'a>,
}

impl<'a> Document<'a> {
    /// As it was given.
    pub(crate) fn text(&self) -> &'a str {
        self.text
    }

    /// Parses the text.
    ///
    /// # Errors
    /// If it is no TOML, or larger than 256 KiB.
    pub fn parse(text: &'a str) -> Result<Self, Problem> {
        if text.len() > DOCUMENT_BYTES_MAX {
            return Err(Problem::at(text, 0, String::new(), format!("larger than {DOCUMENT_BYTES_MAX} bytes")));
        }
        match DeTable::parse(text) {
            Ok(table) => Ok(Self { text, root: DeValue::Table(table.into_inner()) }),
            Err(error) => {
                let offset = error.span().map_or(0, |span| span.start);
                Err(Problem::at(text, offset, String::new(), error.message()))
            }
        }
    }

    /// Reads it, without whatever is wrong: a value can come with problems, and is then of use only to find more of them. There
    /// is none if the document as a whole is refused.
    pub fn read<T: DeserializeOwned>(&self) -> (Option<T>, Vec<Problem>) {
        let mut problems = Vec::new();
        let value = self.read_around(&mut problems);
        problems.sort();
        (value, problems)
    }

    fn read_around<T: DeserializeOwned>(&self, problems: &mut Vec<Problem>) -> Option<T> {
        let mut refused = Refused::new();
        while problems.len() < PROBLEMS_MAX {
            let refusal = match T::deserialize(Node { value: &self.root, offset: 0, refused: &refused }) {
                Ok(value) => return Some(value),
                Err(refusal) => refusal,
            };
            if let Cause::Said(message) = refusal.cause {
                problems.push(Problem::at(self.text, refusal.offset.unwrap_or(0), refusal.path.join("."), message));
            }
            if !refused.insert(refusal.entry?) {
                return None;
            }
        }
        None
    }

    /// Whether something is written at this path of keys.
    pub fn contains(&self, path: &[&str]) -> bool {
        self.walk(path).count() == path.len()
    }

    /// Whether an array or a table is written at this path, with nothing in it.
    pub(crate) fn is_empty(&self, path: &[&str]) -> bool {
        self.len(path) == Some(0)
    }

    /// How many entries the array or table at this path has; none if nothing of the kind is written there.
    pub(crate) fn len(&self, path: &[&str]) -> Option<usize> {
        let len = |value: &DeValue<'_>| match value {
            DeValue::Array(array) => Some(array.len()),
            DeValue::Table(table) => Some(table.len()),
            _ => None,
        };
        self.walk(path).last().filter(|_| self.contains(path)).and_then(|value| len(value.get_ref()))
    }

    /// A problem with the value at this path of keys, or with its absence from as much of the path as is written.
    pub fn problem(&self, path: &[&str], message: impl Into<String>) -> Problem {
        Problem::at(self.text, self.offset(path), show_path(path), message)
    }

    /// A problem with one element of the array at this path.
    pub(crate) fn problem_of(&self, path: &[&str], element: usize, message: impl Into<String>) -> Problem {
        let array = self.walk(path).last().and_then(|value| value.get_ref().as_array());
        let offset = array.and_then(|array| array.get(element)).map_or_else(|| self.offset(path), |value| value.span().start);
        Problem::at(self.text, offset, show_path(path), message)
    }

    /// Where the value at this path begins, or as much of the path as is written.
    pub(crate) fn offset(&self, path: &[&str]) -> usize {
        self.walk(path).last().map_or(0, |value| value.span().start)
    }

    /// The values along the path, as far as they are written.
    fn walk<'s>(&'s self, path: &[&str]) -> impl Iterator<Item = &'s Spanned<DeValue<'a>>> {
        path.iter().scan(&self.root, |value, key| {
            let found = value.as_table()?.get(*key)?;
            *value = found.get_ref();
            Some(found)
        })
    }
}

fn show_path(path: &[&str]) -> String {
    path.iter().map(|key| show_key(key)).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;
    use crate::quantity::{ByteSize, Count};

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Settings {
        name: Option<String>,
        #[serde(default)]
        ratio: f32,
        level: Option<Level>,
        #[serde(default)]
        ports: Vec<u16>,
        server: Option<Server>,
        #[serde(default)]
        labels: BTreeMap<String, String>,
        #[serde(default)]
        peers: Vec<Server>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Server {
        host: String,
        queue_max: Option<Count<1, 64>>,
        body_max: Option<ByteSize<1, { 1 << 30 }>>,
        #[serde(default)]
        fast: bool,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "lowercase")]
    enum Level {
        Info,
        Debug,
    }

    fn problems(text: &str) -> Vec<String> {
        let problems = read_document::<Settings>(text).expect_err("the document is refused");
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_good_document_is_read() {
        let text = "name = 'a'\r\nratio = 1\nlevel = 'debug'\nports = [1, 0xffff]\nlabels.\"a b\" = 'c'\n\
            [server]\nhost = 'h'\nqueue_max = 64\nbody_max = '1GiB'\nfast = true\n[[peers]]\nhost = 'p'\n";
        let settings: Settings = read_document(text).expect("good");
        assert_eq!(settings.name.as_deref(), Some("a"));
        assert_eq!(settings.ports, [1, 65535]);
        assert_eq!(settings.level, Some(Level::Debug));
        assert_eq!(settings.labels["a b"], "c");
        let server = settings.server.expect("given");
        assert_eq!((server.queue_max.map(Count::get), server.body_max.map(ByteSize::get)), (Some(64), Some(1 << 30)));
        assert_eq!(settings.peers.len(), 1);
        assert_eq!(read_document::<Settings>(""), Ok(Settings::default()));
    }

    #[test]
    fn each_error_has_its_line_and_key() {
        let cases = [
            ("name = 3", "line 1: name: expected a string, found an integer"),
            ("\nname = 2020-01-01", "line 2: name: dates and times mean nothing here"),
            ("ratio = 'x'", "line 1: ratio: expected a number, found a string"),
            ("level = 'loud'", "line 1: level: expected one of info, debug, found \"loud\""),
            ("level = 1", "line 1: level: expected a string, found an integer"),
            ("ports = 80", "line 1: ports: expected an array, found an integer"),
            ("ports = [80,\n'x']", "line 2: ports: expected an integer, found a string"),
            ("server = [1]", "line 1: server: expected a table, found an array"),
            ("labels = 'x'", "line 1: labels: expected a table, found a string"),
            ("labels = { 'a b' = 1 }", "line 1: labels.\"a b\": expected a string, found an integer"),
            ("[server]\nhost = 'h'\nqueue_max = 0", "line 3: server.queue_max: expected an integer from 1 to 64, found 0"),
            ("[server]\nhost = 'h'\nqueue_max = 65", "line 3: server.queue_max: expected an integer from 1 to 64, found 65"),
            (
                "[server]\nhost = 'h'\nqueue_max = 99999999999999999999",
                "line 3: server.queue_max: expected an integer from 1 to 64, found 99999999999999999999",
            ),
            ("[server]\nhost = 'h'\nqueue_max = true", "line 3: server.queue_max: expected an integer, found a boolean"),
            (
                "[server]\nhost = 'h'\nbody_max = '2GiB'",
                "line 3: server.body_max: expected a size from 1B to 1GiB, such as 4096 or \"16MiB\", found \"2GiB\"",
            ),
            (
                "[server]\nhost = 'h'\nbody_max = -1",
                "line 3: server.body_max: expected a size from 1B to 1GiB, such as 4096 or \"16MiB\", found -1",
            ),
            (
                "[server]\nhost = 'h'\nbody_max = []",
                "line 3: server.body_max: expected a size from 1B to 1GiB, such as 4096 or \"16MiB\", found an array",
            ),
            ("\n[server]", "line 2: server.host: this key is missing"),
            ("[server]\nhost = 'h'\nquue_max = 1", "line 3: server.quue_max: unknown key, did you mean `queue_max`?"),
            ("[server]\nhost = 'h'\nx = 1", "line 3: server.x: unknown key; there are host, queue_max, body_max, fast"),
            ("[[peers]]\nhost = 'h'\n[[peers]]\nfast = true", "line 3: peers.host: this key is missing"),
        ];
        for (text, expected) in cases {
            assert_eq!(problems(text), [expected], "{text}");
        }
    }

    #[test]
    fn all_errors_come_at_once_and_in_order() {
        let text =
            "nmae = 'a'\nports = ['x', 70000, 1]\nzone = 1\n[server]\nhost = 7\nfast = 1\n[[peers]]\n[[peers]]\nhost = true\n";
        assert_eq!(
            problems(text),
            [
                "line 1: nmae: unknown key, did you mean `name`?",
                "line 2: ports: expected an integer, found a string",
                "line 3: zone: unknown key; there are name, ratio, level, ports, server, labels, peers",
                // Not that `host` is missing as well.
                "line 5: server.host: expected a string, found an integer",
                "line 6: server.fast: expected a boolean, found an integer",
                "line 7: peers.host: this key is missing",
                "line 9: peers.host: expected a string, found a boolean",
            ]
        );
    }

    #[test]
    fn no_toml_is_one_problem() {
        let cases = [
            ("a = 1\nname = ", 2),
            ("name = 'a'\n\nname = 'b'", 3),
            ("[server", 1),
            ("\u{0}", 1),
            ("[server]\n[server]", 2),
            ("name = \"\\q\"", 1),
        ];
        for (text, line) in cases {
            let problems = read_document::<Settings>(text).expect_err("no TOML");
            assert_eq!((problems.len(), problems[0].line, problems[0].key.as_str()), (1, line, ""), "{problems:?}");
        }
        assert!(read_document::<Settings>(&format!("ports = {}", "[".repeat(100_000))).is_err());
    }

    #[test]
    fn the_text_and_the_problems_are_bounded() {
        let longest = format!("#{}", "x".repeat(DOCUMENT_BYTES_MAX - 1));
        assert!(read_document::<Settings>(&longest).is_ok());
        assert_eq!(problems(&format!("{longest}x")), ["line 1: larger than 262144 bytes"]);
        let many: String = (0..10_000).map(|number| format!("key-{number} = 1\n")).collect();
        assert_eq!(problems(&many).len(), PROBLEMS_MAX);
    }

    #[test]
    fn rules_across_keys_find_their_lines() {
        let document = Document::parse("name = 'ä' \n[server]\n  host = 'h'").expect("good");
        assert!(document.contains(&["server", "host"]) && !document.contains(&["server", "port"]));
        let of = |path: &[&str]| (document.problem(path, "no").line, document.problem(path, "no").column);
        assert_eq!(of(&["server", "host"]), (3, 10));
        assert_eq!(of(&["server", "port"]), (2, 1));
        assert_eq!(of(&["model"]), (1, 1));
        assert_eq!(document.problem(&["model"], "no").to_string(), "line 1: model: no");
        let document = Document::parse("ports = [1,\n2,\n3]\npeers = []\nserver.a = {}").expect("good");
        assert!(document.is_empty(&["peers"]) && document.is_empty(&["server", "a"]));
        assert!(!document.is_empty(&["ports"]) && !document.is_empty(&["server"]) && !document.is_empty(&["peers", "a"]));
        assert_eq!(document.problem_of(&["ports"], 2, "no").to_string(), "line 3: ports: no");
        assert_eq!(document.problem_of(&["ports"], 3, "no").to_string(), "line 1: ports: no");
    }
}
