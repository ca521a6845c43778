//! The engine on a device: answers beside the CPU's, latency, memory over reloads. `docs/gpu.md` says how to run it.
//!
//! A program, and no set of tests, because those swallow what they print: where there is no device it says that nothing was checked,
//! rehearses the checks with the CPU in the device's place, so that they do not rot, and fails if `SANDMILL_TEST_GPU` is set.
#![allow(clippy::unwrap_used, reason = "a failed expectation is how a test speaks")]
#![allow(clippy::print_stdout, reason = "what it measures is for whoever runs it")]

mod checks;
mod memory;
mod models;

use std::process::ExitCode;

use sandmill_domain::Provider;
use sandmill_engine::{Engine, LoadError, ProviderError};

use crate::checks::Bench;
use crate::models::{Case, load};

/// Providers of devices, and what their answers may differ by from the CPU's, relative to the largest: TensorRT computes with
/// numbers of 19 bits.
const PROVIDERS: [(&str, f32); 2] = [("cuda", 1e-4), ("tensorrt", 1e-2)];
/// Runs that are timed.
const RUNS: usize = 200;
const RUNS_REHEARSED: usize = 5;

fn main() -> ExitCode {
    let engine = models::start();
    println!("gpu: ONNX Runtime {} from {}", engine.version(), models::library().display());
    let cases = models::cases();
    let mut checked = 0;
    for (name, tolerance) in PROVIDERS {
        match probe(&engine, name, &cases[0]) {
            Ok(provider) => {
                Bench { engine: &engine, provider, tolerance, runs: RUNS }.run(&cases);
                checked += 1;
            }
            Err(reason) => println!("gpu: SKIPPED: {name}: NOTHING WAS CHECKED on it: {reason}"),
        }
    }
    if checked > 0 {
        println!("gpu: {checked} of {} providers checked", PROVIDERS.len());
        return ExitCode::SUCCESS;
    }
    println!("gpu: no device here: a rehearsal of the checks with the CPU in its place, WHICH SAYS NOTHING ABOUT DEVICES");
    Bench { engine: &engine, provider: Provider::cpu(), tolerance: 1e-6, runs: RUNS_REHEARSED }.run(&cases[..1]);
    if std::env::var_os("SANDMILL_TEST_GPU").is_some() {
        println!("gpu: FAILED: SANDMILL_TEST_GPU is set, and no device was checked");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// The provider, if a model runs on it; why not, if it is not there. Any other error is a failure.
fn probe(engine: &Engine, name: &str, case: &Case) -> Result<Provider, String> {
    let mut provider = Provider::named(name);
    if name == "cuda" {
        // As exact as the CPU: by default its products have 19 bits.
        provider.options = [("use_tf32".to_owned(), "0".to_owned())].into();
    }
    match load(engine, case, &provider) {
        Ok(model) => {
            assert_eq!((model.provider(), model.fell_back()), (name, None));
            Ok(provider)
        }
        Err(LoadError::Provider(error @ ProviderError::Missing { .. })) => Err(error.to_string()),
        Err(error) => panic!("{name}: {error}"),
    }
}
