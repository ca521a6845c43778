//! The `sandmill` binary: reads the command line, does what it says, and says in plain words what went wrong.

mod accounts;
mod build_plugin;
mod check;
mod cli;
mod config;
mod config_providers;
mod config_sandbox;
mod config_store;
mod config_tls;
mod control;
mod deploy;
mod holdings;
mod invoke;
mod no_keys;
mod process;
mod report;
mod serve;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    process::forbid_telemetry();
    let cli = Cli::parse();
    report::log_panics();
    let done = match cli.command {
        Command::Serve(options) => serve::run(&options),
        Command::Check(options) => check::run(&options),
        Command::Build(options) => report::built(&options),
        Command::Invoke(options) => invoke::run(&options),
        Command::Version => report::version(),
        Command::Quarantine => return sandmill_sandbox::serve_quarantine(),
        Command::QuarantineModel => return sandmill_engine::serve_quarantine(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report::failure(&error),
    }
}
