//! The plugin's log: bounded lines of printable text, to `tracing` under the target `plugin`, or kept for whoever asks. Knows
//! nothing of wasmtime.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use sandmill_domain::{Journal, PluginLimits};
use tracing::Level;

/// Bytes of one line.
pub(crate) const LINE_BYTES_MAX: usize = 8 << 10;

/// A line and its level.
pub(crate) type Line = (Level, String);

/// The log of one instance, bounded for each of its requests.
pub(crate) struct Lines {
    function: Arc<str>,
    journal: Option<Arc<Journal>>,
    lines_max: usize,
    bytes_max: usize,
    lines: AtomicUsize,
    bytes: AtomicUsize,
    /// Set where there is no log to write to, as in quarantine.
    kept: Option<Mutex<Vec<Line>>>,
}

impl Lines {
    pub(crate) fn new(function: Arc<str>, journal: Option<Arc<Journal>>, limits: &PluginLimits) -> Self {
        let (lines_max, bytes_max) = (limits.log_lines_max, limits.log_bytes_max);
        Self { function, journal, lines_max, bytes_max, lines: AtomicUsize::new(0), bytes: AtomicUsize::new(0), kept: None }
    }

    /// The same, but the lines are kept for [`Lines::take`].
    pub(crate) fn keeping(limits: &PluginLimits) -> Self {
        Self { kept: Some(Mutex::default()), ..Self::new("".into(), None, limits) }
    }

    /// The lines that were kept.
    pub(crate) fn take(&self) -> Vec<Line> {
        let lines = self.kept.as_ref().map(|kept| std::mem::take(&mut *kept.lock().unwrap_or_else(PoisonError::into_inner)));
        lines.unwrap_or_default()
    }

    /// Another request begins with all its lines.
    pub(crate) fn begin(&self) {
        self.lines.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
    }

    /// Whether every further line is dropped, so that it need not be made.
    pub(crate) fn is_full(&self) -> bool {
        self.lines.load(Ordering::Relaxed) > self.lines_max
    }

    /// Writes a line; the first one too many becomes a note that there were more.
    pub(crate) fn write(&self, level: Level, text: &str) {
        if self.is_full() {
            return;
        }
        let text = printable(text, LINE_BYTES_MAX);
        let bytes = self.bytes.fetch_add(text.len(), Ordering::Relaxed).saturating_add(text.len());
        let lines = if bytes > self.bytes_max { self.lines_max } else { self.lines.load(Ordering::Relaxed) };
        self.lines.store(lines + 1, Ordering::Relaxed);
        if lines < self.lines_max {
            self.emit(level, text);
        } else {
            self.emit(Level::WARN, "further lines of this request are dropped".into());
        }
    }

    fn emit(&self, level: Level, text: String) {
        match &self.kept {
            Some(kept) => kept.lock().unwrap_or_else(PoisonError::into_inner).push((level, text)),
            None => emit(level, &self.function, self.journal.as_deref(), text),
        }
    }
}

/// Writes a line to the log, whose text is printable.
pub(crate) fn emit(level: Level, function: &str, journal: Option<&Journal>, text: String) {
    use sandmill_domain::Level as Of;
    let of = match level {
        Level::TRACE => Of::Trace,
        Level::DEBUG => Of::Debug,
        Level::INFO => Of::Info,
        Level::WARN => Of::Warn,
        Level::ERROR => Of::Error,
    };
    match level {
        Level::TRACE => tracing::trace!(target: "plugin", function, "{text}"),
        Level::DEBUG => tracing::debug!(target: "plugin", function, "{text}"),
        Level::INFO => tracing::info!(target: "plugin", function, "{text}"),
        Level::WARN => tracing::warn!(target: "plugin", function, "{text}"),
        Level::ERROR => tracing::error!(target: "plugin", function, "{text}"),
    }
    if let Some(journal) = journal {
        journal.write(of, text);
    }
}

/// At most `bytes_max` bytes of `text`, with a space in place of each control character: a stranger's text can neither
/// begin a line of its own in a log nor steer a terminal.
pub(crate) fn printable(text: &str, bytes_max: usize) -> String {
    let cut = text.floor_char_boundary(bytes_max);
    text[..cut].chars().map(|character| if steers(character) { ' ' } else { character }).collect()
}

/// Whether a character does something else than to be seen: controls, separators of lines, changes of direction.
fn steers(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
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
            ("a\u{2028}b\u{202e}c", 9, "a b c"),
            ("", 0, ""),
        ];
        for (text, bytes_max, expected) in cases {
            assert_eq!(printable(text, bytes_max), expected, "{text:?}");
        }
    }

    fn written(limits: &PluginLimits, text: &str) -> (Lines, Vec<String>) {
        let lines = Lines::keeping(limits);
        for _ in 0..10 {
            lines.write(Level::INFO, text);
        }
        let kept = lines.take().into_iter().map(|(_, text)| text).collect();
        (lines, kept)
    }

    #[test]
    fn lines_end_after_their_bound() {
        let note = "further lines of this request are dropped";
        let limits = PluginLimits { log_lines_max: 3, ..PluginLimits::default() };
        let (lines, kept) = written(&limits, "again");
        assert_eq!(kept, ["again", "again", "again", note]);
        assert!(lines.is_full());
        lines.begin();
        assert!(!lines.is_full());
        let limits = PluginLimits { log_bytes_max: 10, ..PluginLimits::default() };
        let (lines, kept) = written(&limits, "again");
        assert_eq!(kept, ["again", "again", note]);
        assert!(lines.is_full());
    }
}
