//! Questions to the person at the terminal, where there is one.
#![allow(clippy::print_stderr, reason = "a question is not the command's output")]

use std::io::{IsTerminal, stderr, stdin};

use anyhow::{Result, bail};

/// Goes on if the person says yes, `yes` was given, or nobody is there to be asked.
///
/// # Errors
/// If the person says anything else.
pub(crate) fn confirm(question: &str, yes: bool) -> Result<()> {
    if yes || !stdin().is_terminal() || !stderr().is_terminal() {
        return Ok(());
    }
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    stdin().read_line(&mut answer)?;
    if matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    bail!("nothing was changed")
}

/// Something that the person should know, and that is no failure.
pub(crate) fn warn(text: &str) {
    eprintln!("warning: {text}");
}
