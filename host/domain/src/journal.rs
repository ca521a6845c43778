//! The last lines that a function's plugins have said, for whoever owns it: bounded in lines and in bytes, the oldest going first.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

/// Lines of one function.
const LINES_MAX: usize = 1000;
/// Their text together.
const BYTES_MAX: usize = 256 << 10;

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Steps that only their author follows.
    Trace,
    /// What helps to find a mistake.
    Debug,
    /// What is worth knowing.
    Info,
    /// What should not be.
    Warn,
    /// What failed.
    Error,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalLine {
    /// Counted from 1 since the host started; a gap tells that lines went before anybody saw them.
    pub number: u64,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// What it is about.
    pub level: Level,
    /// Printable.
    pub text: String,
}

/// The last lines.
#[derive(Debug, Default)]
pub struct Journal(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    lines: VecDeque<JournalLine>,
    bytes: usize,
    written: u64,
}

impl Journal {
    /// Adds a line, whose text must be printable and bounded.
    pub fn write(&self, level: Level, text: String) {
        let at_ms = UNIX_EPOCH.elapsed().map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
        let mut ring = self.ring();
        ring.written += 1;
        ring.bytes += text.len();
        let number = ring.written;
        ring.lines.push_back(JournalLine { number, at_ms, level, text });
        while ring.lines.len() > LINES_MAX || ring.bytes > BYTES_MAX {
            let Some(gone) = ring.lines.pop_front() else { break };
            ring.bytes -= gone.text.len();
        }
    }

    /// At most `max` lines after that number, the oldest first.
    pub fn after(&self, number: u64, max: usize) -> Vec<JournalLine> {
        self.ring().lines.iter().filter(|line| line.number > number).take(max).cloned().collect()
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(journal: &Journal, after: u64, max: usize) -> Vec<u64> {
        journal.after(after, max).iter().map(|line| line.number).collect()
    }

    #[test]
    fn lines_are_numbered_and_the_oldest_go() {
        let journal = Journal::default();
        assert_eq!(numbers(&journal, 0, 10), [0_u64; 0]);
        (0..3).for_each(|_| journal.write(Level::Info, "x".into()));
        assert_eq!(numbers(&journal, 0, 10), [1, 2, 3]);
        assert_eq!(numbers(&journal, 1, 1), [2]);
        (0..LINES_MAX).for_each(|_| journal.write(Level::Info, "x".into()));
        assert_eq!(numbers(&journal, 0, 1), [4]);
        assert_eq!(journal.after(0, usize::MAX).len(), LINES_MAX);
    }

    #[test]
    fn their_text_is_bounded() {
        let journal = Journal::default();
        (0..100).for_each(|_| journal.write(Level::Warn, "y".repeat(BYTES_MAX / 4)));
        assert_eq!(numbers(&journal, 0, 10), [97, 98, 99, 100]);
        journal.write(Level::Warn, "y".repeat(BYTES_MAX + 1));
        assert_eq!(numbers(&journal, 0, 10), [0_u64; 0], "one that is larger than all of it");
        journal.write(Level::Warn, "z".into());
        assert_eq!(numbers(&journal, 0, 10), [102]);
    }
}
