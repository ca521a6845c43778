//! Measures the sandbox from inside a process: what a fresh instance costs, what is copied, what is idle, what a neighbour
//! feels; and the same for plain wasmtime, as the floor, in the same run. One line of JSON per figure, as `bench/run` prints.
#![allow(clippy::print_stdout, reason = "it prints its figures")]

mod calls;
mod floor;
mod guests;
mod idle;
mod tenants;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

/// What is measured.
#[derive(Debug, Parser)]
struct Options {
    /// The project's root.
    #[arg(long, default_value = ".")]
    root: PathBuf,
    /// Times each figure is taken; the median is told, and all of them.
    #[arg(long, default_value_t = 9)]
    runs: usize,
    /// Distinct functions for the memory of an idle one.
    #[arg(long, default_value_t = 1000)]
    functions: usize,
    /// Seconds of each half of the comparison with a neighbour.
    #[arg(long, default_value_t = 6)]
    secs: u64,
    /// Only the groups whose names contain this: calls, idle, tenants.
    #[arg(long, default_value = "")]
    only: String,
}

fn main() -> ExitCode {
    // What the sandbox starts to compile components, and what the idle group starts for a process of its own.
    match std::env::args().nth(1).as_deref() {
        Some("quarantine") => return sandmill_sandbox::serve_quarantine(),
        Some("idle") => return end(idle::measure_here()),
        _ => {}
    }
    end(run(&Options::parse()))
}

fn end(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[allow(clippy::print_stderr, reason = "it tells its failure")]
            {
                eprintln!("error: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    if "calls".contains(&options.only) {
        calls::measure(options)?;
    }
    if "idle".contains(&options.only) {
        idle::measure(options)?;
    }
    if "tenants".contains(&options.only) {
        tenants::measure(options)?;
    }
    Ok(())
}

/// Prints a figure: the median, and all runs.
fn tell(name: &str, unit: &str, mut runs: Vec<f64>) {
    let shown: Vec<String> = runs.iter().map(|value| format!("{value:.4}")).collect();
    runs.sort_by(f64::total_cmp);
    let median = runs[runs.len() / 2];
    println!(r#"{{"name": "sandbox.{name}", "value": {median:.4}, "unit": "{unit}", "runs": [{}]}}"#, shown.join(", "));
}
