//! The `sandmill` binary: reads the command line, does what it says, and says in plain words what went wrong.

mod accounts;
mod build_plugin;
mod check;
mod cli;
mod client;
mod config;
mod config_providers;
mod config_sandbox;
mod config_store;
mod config_tls;
mod control;
mod deploy;
mod doctor;
mod holdings;
mod init;
mod inspect;
mod invoke;
mod loaded_model;
mod new;
mod process;
mod report;
mod serve;
mod store_location;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    process::forbid_telemetry();
    let cli = Cli::parse();
    report::log_panics();
    let json = cli.json;
    let done = match cli.command {
        Command::Doctor(options) => return doctor::run(&options, json).unwrap_or_else(|error| report::failure(&error, json)),
        Command::Quarantine => return sandmill_sandbox::serve_quarantine(),
        Command::QuarantineModel => return sandmill_engine::serve_quarantine(),
        command => run(&command, json),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report::failure(&error, json),
    }
}

fn run(command: &Command, json: bool) -> Result<()> {
    match command {
        Command::Init(options) => init::run(options, json),
        Command::Serve(options) => serve::run(options, json),
        Command::New(options) => new::run(options, json),
        Command::Build(options) => report::built(options, json),
        Command::Check(options) => check::run(options, json),
        Command::Deploy(options) => client::deploy(options, json),
        Command::Invoke(options) => invoke::run(options),
        Command::Functions(options) => client::functions(options, json),
        Command::Releases(options) => client::releases(options, json),
        Command::RollBack(options) => client::roll_back(options, json),
        Command::Difference(options) => client::difference(options, json),
        Command::Delete(options) => client::delete(options, json),
        Command::WhoAmI(options) => client::whoami(options, json),
        Command::Plugins(options) => client::uploads(client::Kind::Plugin, options, json),
        Command::Models(options) => client::uploads(client::Kind::Model, options, json),
        Command::Keys(options) => client::keys(options, json),
        Command::Tenants(options) => client::tenants(options, json),
        Command::Audit(options) => client::audit(options, json),
        Command::Logs(options) => client::logs(options, json),
        Command::Usage(options) => client::usage(options, json),
        Command::Profile(options) => client::profile(options, json),
        Command::Completions(options) => report::completions(options),
        Command::Version => report::version(json),
        Command::Doctor(_) | Command::Quarantine | Command::QuarantineModel => Ok(()),
    }
}
