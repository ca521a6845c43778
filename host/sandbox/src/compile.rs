//! The quarantine's work: from a stranger's component to native code, with the memory that its `init` leaves. Runs in a child
//! process alone, since neither time nor memory of a compiler can be bounded from within.

use std::borrow::Cow;
use std::process::ExitCode;
use std::time::Instant;

use wasmtime::Engine;

use crate::job::{Answer, Compiled, Job, LogLine, Made, Refusal, Snapshot};
use crate::scan::scan;
use crate::{contract, machine, snapshot};

/// Serves one job in a process that a [`crate::Sandbox`] has started as its [`crate::CompileOptions::program`].
pub fn serve_quarantine() -> ExitCode {
    sandmill_worker::serve(answer)
}

pub(crate) fn answer(job: &[u8]) -> Vec<u8> {
    let mut lines = Vec::new();
    let compiled = postcard::from_bytes::<Job<'_>>(job)
        .map_err(|error| Refusal::invalid(&format!("the job cannot be read: {error}")))
        .and_then(|job| compile(&job, &mut lines));
    let answer = match compiled {
        Ok((made, code)) => Answer::Compiled(Compiled { made, lines, code }),
        Err(refusal) => Answer::Refused(refusal, lines),
    };
    postcard::to_stdvec(&answer).expect("invariant: plain data in memory can be written")
}

fn compile(job: &Job<'_>, lines: &mut Vec<LogLine>) -> Result<(Made, Vec<u8>), Refusal> {
    let seen = scan(job.component, job.functions_max, job.function_bytes_max)?;
    contract::check_names(&seen.imports, &seen.exports, job.http)?;
    let has_init = seen.exports.iter().any(|name| contract::is_init(name));
    let (component, snapshot) =
        if has_init { snapshot::take(job, lines)? } else { (Cow::Borrowed(job.component), Snapshot::NoInit) };
    let start = Instant::now();
    let invalid = |error: wasmtime::Error| Refusal::invalid(&format!("{error:#}"));
    let engine = Engine::new(&machine::code_config()).map_err(invalid)?;
    let code = engine.precompile_component(&component).map_err(invalid)?;
    Ok((Made { snapshot, compile_time: start.elapsed() }, code))
}
