//! The quarantine's work: from a stranger's component to native code, with the memory that its `init` leaves. Runs in a child
//! process alone, since neither time nor memory of a compiler can be bounded from within.

use std::borrow::Cow;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use wasmtime::Engine;

use crate::job::{Answer, Compiled, Inspected, Job, LogLine, Made, Refusal, Snapshot, interfaces};
use crate::scan::scan;
use crate::{contract, machine, snapshot};

/// Serves one job in a process that a [`crate::Sandbox`] has started as its [`crate::CompileOptions::program`].
pub fn serve_quarantine() -> ExitCode {
    sandmill_worker::serve(answer)
}

pub(crate) fn answer(job: &[u8]) -> Vec<u8> {
    let mut lines = Vec::new();
    let answer = postcard::from_bytes::<Job<'_>>(job)
        .map_err(|error| Refusal::invalid(&format!("the job cannot be read: {error}")))
        .and_then(|job| work(&job, &mut lines));
    let answer = match answer {
        Ok(Done { made, code, inspected: None }) => Answer::Compiled(Compiled { made, lines, code }),
        Ok(Done { made, code, inspected: Some(inspected) }) => Answer::Inspected(inspected, Compiled { made, lines, code }),
        Err(refusal) => Answer::Refused(refusal, lines),
    };
    postcard::to_stdvec(&answer).expect("invariant: plain data in memory can be written")
}

/// What came of a job that went well.
struct Done {
    made: Made,
    code: Vec<u8>,
    inspected: Option<Inspected>,
}

fn work(job: &Job<'_>, lines: &mut Vec<LogLine>) -> Result<Done, Refusal> {
    let seen = scan(job.component, job.functions_max, job.function_bytes_max)?;
    contract::check_names(&seen.imports, &seen.exports, job.http)?;
    let has_init = seen.exports.iter().any(|name| contract::is_init(name));
    let started = if has_init { snapshot::take(job, lines) } else { Ok((Cow::Borrowed(job.component), Snapshot::NoInit)) };
    let (component, snapshot, init_failure) = match started {
        Ok((component, snapshot)) => (component, snapshot, None),
        // What a function will give it may be all that it lacks.
        Err(refusal @ (Refusal::Init(_) | Refusal::InitFailed(_))) if job.inspects => {
            let words = refusal.to_string();
            (Cow::Borrowed(job.component), Snapshot::impossible(&words), Some(words))
        }
        Err(refusal) => return Err(refusal),
    };
    let (imports, exports) = (interfaces(&seen.imports), interfaces(&seen.exports));
    let inspected = job.inspects.then_some(Inspected { imports, exports, init_failure });
    let (code, compile_time) = compile(&component)?;
    Ok(Done { made: Made { snapshot, compile_time }, code, inspected })
}

fn compile(component: &[u8]) -> Result<(Vec<u8>, Duration), Refusal> {
    let start = Instant::now();
    let invalid = |error: wasmtime::Error| Refusal::invalid(&format!("{error:#}"));
    let engine = Engine::new(&machine::code_config()).map_err(invalid)?;
    let code = engine.precompile_component(component).map_err(invalid)?;
    Ok((code, start.elapsed()))
}
