//! Whatever bytes a stranger uploads, loading and calling them neither ends nor holds up the host. The quarantine's work is done
//! in this process too (`Sandbox::load` under `cfg(fuzzing)`), so that the fuzzer sees into the compiler.
#![no_main]

mod call;
#[path = "../../../tests/guest/mod.rs"]
mod guest;
mod mutate;
mod seeds;
mod stats;

use std::panic::{PanicHookInfo, set_hook};
use std::sync::LazyLock;
use std::thread;

use libfuzzer_sys::{Corpus, fuzz_mutator, fuzz_target};

use crate::call::Host;

/// Started with the first input: wasmtime's handlers of signals hand on to libFuzzer's, which are there by then.
static HOST: LazyLock<Host> = LazyLock::new(Host::start);

fuzz_target!(init: set_hook(Box::new(on_panic)), |bytes: &[u8]| -> Corpus {
    // What is damaged is tried and not kept: whatever grows from it is damaged too.
    if HOST.load_and_call(bytes) { Corpus::Keep } else { Corpus::Reject }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| { mutate::mutate(data, size, max_size, seed) });

/// In place of libfuzzer-sys's hook, which ends the process at once: snapshots are taken with a crate that panics on what it
/// does not support, and the host catches that. Whatever it does not catch ends the process nevertheless.
fn on_panic(panic: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let name = thread.name().unwrap_or_default();
    stats::count(|| format!("panic at {}", panic.location().map(ToString::to_string).unwrap_or_default()));
    if stats::wanted() || !panic.location().is_some_and(|at| at.file().contains("wasmtime-wizer")) {
        eprintln!("thread `{name}`: {panic}");
    }
    // Nobody would hear of it otherwise.
    if name == "epoch-ticker" {
        std::process::abort();
    }
}
