//! The plugin's log: bounded lines of printable text, to `tracing` under the target `plugin`. Knows nothing of wasmtime.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tracing::Level;

/// Lines of one request.
const LINES_MAX: u32 = 100;
/// Bytes of one line.
pub(crate) const LINE_BYTES_MAX: usize = 8 << 10;

/// The log of one request.
pub(crate) struct Lines {
    function: Arc<str>,
    written: AtomicU32,
}

impl Lines {
    pub(crate) fn new(function: Arc<str>) -> Self {
        Self { function, written: AtomicU32::new(0) }
    }

    /// Whether every further line is dropped, so that it need not be made.
    pub(crate) fn is_full(&self) -> bool {
        self.written.load(Ordering::Relaxed) > LINES_MAX
    }

    /// Writes a line; the first one too many becomes a note that there were more.
    pub(crate) fn write(&self, level: Level, text: &str) {
        let next = |written: u32| (written <= LINES_MAX).then_some(written + 1);
        match self.written.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) {
            Err(_) => {}
            Ok(LINES_MAX) => emit(Level::WARN, &self.function, "further lines of this request are dropped"),
            Ok(_) => emit(level, &self.function, &printable(text, LINE_BYTES_MAX)),
        }
    }
}

fn emit(level: Level, function: &str, text: &str) {
    match level {
        Level::TRACE => tracing::trace!(target: "plugin", function, "{text}"),
        Level::DEBUG => tracing::debug!(target: "plugin", function, "{text}"),
        Level::INFO => tracing::info!(target: "plugin", function, "{text}"),
        Level::WARN => tracing::warn!(target: "plugin", function, "{text}"),
        Level::ERROR => tracing::error!(target: "plugin", function, "{text}"),
    }
}

/// At most `bytes_max` bytes of `text`, with a space in place of each control character: a stranger's text can neither
/// begin a line of its own in a log nor steer a terminal.
pub(crate) fn printable(text: &str, bytes_max: usize) -> String {
    let cut = text.floor_char_boundary(bytes_max);
    text[..cut].chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_between_characters_and_made_printable() {
        let cases = [
            ("plain", 10, "plain"),
            ("two\nlines\r\x1b[31m", 20, "two lines  [31m"),
            ("äöü", 3, "ä"),
            ("\u{85}x", 9, " x"),
            ("", 0, ""),
        ];
        for (text, bytes_max, expected) in cases {
            assert_eq!(printable(text, bytes_max), expected, "{text:?}");
        }
    }

    #[test]
    fn lines_end_after_their_bound() {
        let lines = Lines::new("f".into());
        for _ in 0..=LINES_MAX {
            assert!(!lines.is_full());
            lines.write(Level::INFO, "again");
        }
        assert!(lines.is_full());
        lines.write(Level::INFO, "again");
        assert_eq!(lines.written.load(Ordering::Relaxed), LINES_MAX + 1);
    }
}
