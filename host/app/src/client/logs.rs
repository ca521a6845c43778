//! `sandmill logs`.

use anyhow::Result;
use sandmill_domain::{JournalLine, Level};
use serde::Deserialize;

use super::ask::{Plane, block_on};
use super::words::moment;
use crate::cli::LogsOptions;
use crate::report::say;

/// How long the server waits for a line before it is asked again, in milliseconds.
const WAIT_MS: u64 = 15_000;

#[derive(Deserialize)]
struct Logs {
    lines: Vec<JournalLine>,
}

/// `sandmill logs`
pub(crate) fn run(options: &LogsOptions, json: bool) -> Result<()> {
    let plane = Plane::open(&options.remote, json)?;
    let mut after = options.after;
    let mut wait_ms = 0;
    loop {
        let path = plane.path(&format!("functions/{}/logs?after={after}&wait_ms={wait_ms}", options.function));
        let told = block_on(plane.get(&path))?;
        let lines = told.read::<Logs>()?.lines;
        if !options.follow {
            return plane.show(&told, |logs: Logs| match logs.lines.is_empty() {
                true => format!("`{}` has said nothing on this host", options.function),
                false => logs.lines.iter().map(words).collect::<Vec<_>>().join("\n"),
            });
        }
        if json && !lines.is_empty() {
            plane.show(&told, |_: Logs| String::new())?;
        }
        lines.iter().filter(|_| !json).for_each(|line| say(&words(line)));
        let last = lines.last().map_or(after, |line| line.number);
        (after, wait_ms) = (last, WAIT_MS);
    }
}

fn words(line: &JournalLine) -> String {
    let level = match line.level {
        Level::Trace => "trace",
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    };
    format!("{} {level:5} {}", moment(line.at_ms), line.text)
}
