//! A stranger's model is first inspected, loaded, run and measured in a child process, whose memory and time can be bounded: both
//! sides of that. What comes back is plain data, or words.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use sandmill_worker::{Program, QuarantineLimits};
use serde::{Deserialize, Serialize};

use crate::load::{LoadError, ModelOptions, ModelSource};
use crate::plan::Called;
use crate::profile::Measured;
use crate::{Engine, EngineOptions};

/// How children are started, and how far they may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuarantineOptions {
    /// A process that comes to [`serve_quarantine`].
    pub program: Program,
    /// Of one child.
    pub limits: QuarantineLimits,
    /// At once.
    pub children_max: usize,
}

impl Default for QuarantineOptions {
    /// Children of this very binary, whose address space and time are well beyond what a model of two gibibytes takes.
    fn default() -> Self {
        let (cpu_time, wall_time) = (Duration::from_secs(240), Duration::from_secs(300));
        let (memory_bytes_max, descriptors_max, answer_bytes_max) = (16 << 30, 64, 1 << 20);
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            program: Program::this(["quarantine-model"]),
            limits: QuarantineLimits { memory_bytes_max, cpu_time, descriptors_max, wall_time, answer_bytes_max },
            children_max: cores.div_ceil(2),
        }
    }
}

/// What a child is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Task {
    /// To load and warm it up.
    Try,
    /// And then to measure it, on inputs like those that it was called with.
    Measure(Vec<Called>),
}

/// A model, and what is to be done with it.
#[derive(Serialize, Deserialize)]
struct Job<'a> {
    library: PathBuf,
    name: &'a str,
    options: ModelOptions,
    task: Task,
    #[serde(borrow, with = "serde_bytes")]
    bytes: &'a [u8],
}

/// What became of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Good,
    Measured(Box<Measured>),
    /// The words of a [`LoadError`], or of an engine that does not start.
    Refused(String),
}

/// Has a child do it. Blocks.
///
/// # Errors
/// If the child died, with how.
pub(crate) fn send(
    quarantine: &sandmill_worker::Quarantine,
    library: &Path,
    (name, bytes): (&str, &[u8]),
    options: &ModelOptions,
    task: Task,
) -> Result<Answer, LoadError> {
    let job = Job { library: library.to_owned(), name, options: options.clone(), task, bytes };
    let job = postcard::to_stdvec(&job).expect("invariant: plain data in memory can be written");
    let answer = quarantine.run(&job).map_err(LoadError::Died)?;
    postcard::from_bytes(&answer)
        .map_err(|error| LoadError::Quarantined(format!("its quarantine's answer cannot be read: {error}")))
}

/// Serves one model in a process that an engine has started as its [`QuarantineOptions::program`].
pub fn serve_quarantine() -> ExitCode {
    sandmill_worker::serve(|job| postcard::to_stdvec(&answer(job)).expect("invariant: plain data in memory can be written"))
}

fn answer(job: &[u8]) -> Answer {
    let job: Job<'_> = match postcard::from_bytes(job) {
        Ok(job) => job,
        Err(error) => return Answer::Refused(format!("the job cannot be read: {error}")),
    };
    let engine = match Engine::start(&job.library, &EngineOptions::default()) {
        Ok(engine) => engine,
        Err(error) => return Answer::Refused(error.to_string()),
    };
    match engine.load(ModelSource::of(job.name, job.bytes.to_vec()), &job.options) {
        Err(error) => Answer::Refused(error.to_string()),
        Ok(model) => match job.task {
            Task::Try => Answer::Good,
            Task::Measure(called) => Answer::Measured(Box::new(model.measure_like(called))),
        },
    }
}
