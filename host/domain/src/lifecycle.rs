//! What happens to a model's sessions while it is served: why they are replaced or unloaded, and where they stand. The machine
//! itself is the engine's.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Blame, Code, Fault};

/// Why a session was replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecycleReason {
    /// It had answered as many calls as it may.
    Requests,
    /// It was as old as it may be.
    Age,
    /// Its memory had grown by more than it may.
    Memory,
    /// Runs failed one after the other.
    Failures,
    /// A run had to be ended at its deadline.
    Overrun,
    /// A run would not end.
    Abandoned,
    /// Its device failed, and would fail every further run.
    Device,
    /// Somebody asked for it.
    ByHand,
}

impl RecycleReason {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::Requests, Self::Age, Self::Memory, Self::Failures, Self::Overrun, Self::Abandoned, Self::Device, Self::ByHand];

    /// In metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Age => "age",
            Self::Memory => "memory",
            Self::Failures => "failures",
            Self::Overrun => "overrun",
            Self::Abandoned => "abandoned",
            Self::Device => "device",
            Self::ByHand => "by_hand",
        }
    }
}

/// Why a model holds no session any more, until its next call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnloadReason {
    /// Nobody had called it for a while.
    Idle,
    /// Another model needed the memory, and this one was called least recently.
    Memory,
    /// Somebody asked for it.
    Request,
}

impl UnloadReason {
    /// In metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Memory => "memory",
            Self::Request => "request",
        }
    }
}

/// Something that has happened to a model, told as it happens.
#[derive(Clone, Debug, PartialEq)]
pub enum ModelEvent {
    /// It was loaded for a call that waits, or because it must always be there.
    Loaded {
        /// Reading, checking and optimising it.
        load: Duration,
        /// Its warm-up.
        warm_up: Duration,
    },
    /// It could not be loaded: those who waited were refused.
    LoadFailed,
    /// Its session is gone until the next call.
    Unloaded {
        /// Why.
        reason: UnloadReason,
    },
    /// Another session has taken the place of its session.
    Recycled {
        /// Why.
        reason: RecycleReason,
        /// From the decision until the other one was in use.
        took: Duration,
        /// For how long calls had to wait; zero if both were there at once.
        held: Duration,
        /// What the process should have less of now, and has not.
        not_returned_bytes: usize,
    },
    /// No other session could be made.
    RecycleFailed {
        /// Why one was wanted.
        reason: RecycleReason,
    },
    /// A run of it has ended, well or not.
    Ran {
        /// How long it took.
        took: Duration,
    },
    /// A call of it failed.
    Failed {
        /// How.
        kind: FailureKind,
    },
    /// A run did not end when it was told to, and is left to itself.
    Abandoned,
    /// A run that was left to itself has ended after all.
    Returned,
}

/// How a call of a model failed, as far as the model is concerned: a call that was never run, as in a full queue, is none of its
/// failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// There was not the memory for it.
    OutOfMemory,
    /// The runtime, or a kernel, gave an error.
    Runtime,
    /// The run did not end in time.
    Timeout,
    /// Inputs that it cannot be run on.
    BadInput,
}

impl FailureKind {
    /// What a fault that a model gave tells of it; none if it was not run.
    pub fn of(fault: &Fault) -> Option<Self> {
        match (fault.code, fault.blame) {
            (Code::ModelOutOfMemory, _) => Some(Self::OutOfMemory),
            (Code::ModelFailed | Code::Internal, _) => Some(Self::Runtime),
            (Code::DeadlineExceeded, Blame::Model) => Some(Self::Timeout),
            (Code::InvalidInput, _) => Some(Self::BadInput),
            _ => None,
        }
    }

    /// In metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OutOfMemory => "out_of_memory",
            Self::Runtime => "runtime",
            Self::Timeout => "timeout",
            Self::BadInput => "bad_input",
        }
    }
}

/// Where a model stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ModelStage {
    /// A warm session is in use.
    #[default]
    Warm,
    /// A session is being made, and calls wait for it.
    Loading,
    /// There is no session until the next call.
    Unloaded,
}

impl ModelStage {
    /// As the control listener tells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Warm => "warm",
            Self::Loading => "loading",
            Self::Unloaded => "unloaded",
        }
    }
}

/// A model as its operator sees it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelState {
    /// Where it stands.
    pub stage: ModelStage,
    /// What is wrong with it, found by running it; none if it works.
    pub ailing: Option<String>,
    /// Calls that its session has answered.
    pub served: u64,
    /// Since its session was warm.
    pub age: Duration,
    /// The bytes that the runtime holds for it now, and held when it was warm.
    pub memory_bytes: usize,
    /// The second of them.
    pub warm_memory_bytes: usize,
    /// Runs that would not end and have not ended yet.
    pub abandoned: usize,
    /// Calls that wait, in the order of [`crate::Priority::ALL`].
    pub waiting: [usize; 3],
    /// Runs under way.
    pub running: usize,
    /// What was measured of it.
    pub profile: Option<ModelProfile>,
}

/// What was measured of a model, and what follows from it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelProfile {
    /// Batches of growing size.
    pub sizes: Vec<BatchSize>,
    /// The rows that run together at most, or why calls share no run.
    pub batches: Result<usize, String>,
    /// The bytes of inputs up to which a run is made on the thread that has the request, or why none is.
    pub inline: Result<usize, String>,
    /// The axes that are filled up to their buckets, with these, or why none is.
    pub padding: Result<Vec<(String, Vec<i64>)>, String>,
}

/// One size of batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchSize {
    /// Its rows.
    pub rows: usize,
    /// The bytes of its inputs.
    pub bytes: usize,
    /// Of the quickest of some runs.
    pub time: Duration,
}
