//! What the command line prints: results to standard output, failures to standard error, in words and without backtraces.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is the one place that talks to the person at the terminal")]

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use clap::CommandFactory;
use serde_json::{Value, json};

use crate::build_plugin::build_plugin;
use crate::cli::{BuildOptions, Cli, CompletionsOptions};
use crate::client::{Refusal, Unreachable};

/// Here, or in the server.
const FAILED: u8 = 1;
/// Refused by the server.
const REFUSED: u8 = 3;
/// No server.
const UNREACHABLE: u8 = 4;

/// Prints a line for the person at the terminal.
pub(crate) fn say(line: &str) {
    // A closed pipe at the other end is no failure of ours.
    let _closed = writeln!(std::io::stdout(), "{}", printable(line));
}

/// Prints JSON as it came.
pub(crate) fn json(body: &[u8]) {
    let mut out = std::io::stdout().lock();
    let _closed = out.write_all(body.trim_ascii_end()).and_then(|()| out.write_all(b"\n"));
}

/// Prints an object of ours, or the same in words.
pub(crate) fn told(as_json: bool, object: &Value, words: impl FnOnce() -> String) {
    if as_json { json(object.to_string().as_bytes()) } else { say(&words()) }
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

/// Prints what went wrong with its causes, for a program as well if one listens; says how the process ends.
pub(crate) fn failure(error: &anyhow::Error, as_json: bool) -> ExitCode {
    let words = format!("{error:#}");
    eprintln!("error: {}", printable(&words));
    let refusal = error.downcast_ref::<Refusal>();
    let is_unreachable = error.is::<Unreachable>();
    if as_json {
        let code = if is_unreachable { "unreachable" } else { "failed" };
        let own = || json!({ "code": code, "detail": words }).to_string().into_bytes();
        // A proxy's page is no JSON.
        let came = refusal.map(|refusal| refusal.body.to_vec()).filter(|body| serde_json::from_slice::<Value>(body).is_ok());
        json(&came.unwrap_or_else(own));
    }
    ExitCode::from(status(error))
}

/// How the process ends for an error, however much was said around it.
fn status(error: &anyhow::Error) -> u8 {
    match error.downcast_ref::<Refusal>() {
        Some(refusal) if refusal.is_ours() => REFUSED,
        None if error.is::<Unreachable>() => UNREACHABLE,
        _ => FAILED,
    }
}

/// Names of files and keys come from strangers' folders: a terminal obeys none of their characters but the line's end.
fn printable(text: &str) -> String {
    let escape = |letter: char| letter.is_control() && letter != '\n';
    text.chars().map(|letter| if escape(letter) { letter.escape_default().to_string() } else { letter.to_string() }).collect()
}

/// `sandmill version`
pub(crate) fn version(as_json: bool) -> Result<()> {
    let (version, plugins) = (env!("CARGO_PKG_VERSION"), "sandmill:plugin@0.1.0");
    told(as_json, &json!({ "version": version, "plugins": plugins }), || format!("sandmill {version}\nplugins: {plugins}"));
    Ok(())
}

/// `sandmill completions`
pub(crate) fn completions(options: &CompletionsOptions) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut Cli::command(), "sandmill", &mut script);
    let _closed = std::io::stdout().write_all(&script);
    Ok(())
}

/// `sandmill build`
pub(crate) fn built(options: &BuildOptions, as_json: bool) -> Result<()> {
    let component = build_plugin(&options.dir, options.output.as_deref())?;
    let (path, bytes) = (component.path.display().to_string(), component.bytes);
    told(as_json, &json!({ "path": path, "bytes": bytes }), || format!("{path} ({} KiB)", bytes.div_ceil(1024)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_fault_it_is_shows_in_the_exit_code() {
        let refused = |status: u16| {
            let status = hyper::StatusCode::from_u16(status).expect("a status");
            anyhow::Error::new(Refusal::new(status, bytes::Bytes::new())).context("around it")
        };
        assert_eq!([400, 401, 409, 429].map(|code| status(&refused(code))), [REFUSED; 4]);
        assert_eq!([500, 503, 507].map(|code| status(&refused(code))), [FAILED; 3]);
        assert_eq!(status(&anyhow::anyhow!("here")), FAILED);
    }

    #[test]
    fn a_terminal_obeys_no_stranger() {
        assert_eq!(printable("a\u{1b}[31mb\nc\r\u{7}"), "a\\u{1b}[31mb\nc\\r\\u{7}");
    }
}
