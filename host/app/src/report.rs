//! What the command line prints: results to standard output, failures to standard error, in words and without backtraces.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is the one place that talks to the person at the terminal")]

use std::process::ExitCode;

use anyhow::Result;

use crate::build_plugin::build_plugin;
use crate::cli::BuildOptions;

/// Prints a line for the person at the terminal.
pub(crate) fn say(line: &str) {
    use std::io::Write;
    // A closed pipe at the other end is no failure of ours.
    let _closed = writeln!(std::io::stdout(), "{line}");
}

/// A panic is a bug of ours and ends one request, not the process: one line in the log, no backtrace at the user.
pub(crate) fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(|| "somewhere".to_owned(), ToString::to_string);
        let message = panic.payload_as_str().unwrap_or("no message");
        if tracing::dispatcher::has_been_set() {
            tracing::error!(place, message, "a bug in sandmill, please report it");
        } else {
            eprintln!("error: a bug in sandmill, please report it: {message} ({place})");
        }
    }));
}

/// Prints what went wrong with its causes.
pub(crate) fn failure(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {}", printable(&format!("{error:#}")));
    ExitCode::FAILURE
}

/// Names of files and keys come from strangers' folders: a terminal obeys none of their characters but the line's end.
fn printable(text: &str) -> String {
    let escape = |letter: char| letter.is_control() && letter != '\n';
    text.chars().map(|letter| if escape(letter) { letter.escape_default().to_string() } else { letter.to_string() }).collect()
}

/// `sandmill version`
pub(crate) fn version() -> Result<()> {
    say(&format!("sandmill {}", env!("CARGO_PKG_VERSION")));
    say("plugins: sandmill:plugin@0.1.0");
    Ok(())
}

/// `sandmill build`
pub(crate) fn built(options: &BuildOptions) -> Result<()> {
    let component = build_plugin(&options.dir, options.output.as_deref())?;
    say(&format!("{} ({} KiB)", component.path.display(), component.bytes.div_ceil(1024)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_obeys_no_stranger() {
        assert_eq!(printable("a\u{1b}[31mb\nc\r\u{7}"), "a\\u{1b}[31mb\nc\\r\\u{7}");
    }
}
