//! What the host and its quarantine say to each other: a component to compile, and what became of it. Plain data.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use sandmill_domain::{ModelInfo, PluginLimits};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::lines::printable;

/// Everything that the compiled code with its snapshot depends on, besides wasmtime, its settings and the processor.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Job<'a> {
    #[serde(borrow, with = "serde_bytes")]
    pub(crate) component: &'a [u8],
    /// Without secrets.
    #[serde(borrow)]
    pub(crate) config: Vec<(&'a str, &'a str)>,
    #[serde(borrow)]
    pub(crate) assets: Vec<Asset<'a>>,
    pub(crate) models: Vec<ModelInfo>,
    pub(crate) limits: PluginLimits,
    /// Whether it may import what sends requests.
    pub(crate) http: bool,
    pub(crate) stack_bytes_max: usize,
    pub(crate) functions_max: usize,
    pub(crate) function_bytes_max: usize,
    /// Whether it is to be told what it is, also if its `init` fails.
    pub(crate) inspects: bool,
}

/// A file for `init`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Asset<'a> {
    pub(crate) name: &'a str,
    #[serde(with = "serde_bytes")]
    pub(crate) data: &'a [u8],
}

/// What became of a job.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Compiled(Compiled),
    Inspected(Inspected, Compiled),
    Refused(Refusal, Vec<LogLine>),
}

/// What a component is that was looked at.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Inspected {
    pub(crate) imports: Vec<String>,
    pub(crate) exports: Vec<String>,
    /// Why its `init` did not end well.
    pub(crate) init_failure: Option<String>,
}

/// Native code, and how it came to be.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Compiled {
    pub(crate) made: Made,
    pub(crate) lines: Vec<LogLine>,
    #[serde(with = "serde_bytes")]
    pub(crate) code: Vec<u8>,
}

/// What is remembered of compiled code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// Whether requests start from a snapshot.
    pub snapshot: Snapshot,
    /// How long the compiler took.
    pub compile_time: Duration,
}

/// Whether requests start from the memory that `init` left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Snapshot {
    /// They do.
    Taken {
        /// How long `init` and the rest of it took.
        time: Duration,
    },
    /// There is no `init`.
    NoInit,
    /// There is one, but it runs for each instance, because of this.
    Impossible(String),
}

/// A line of the plugin's log: its level, from 0 for trace to 4 for error, and its printable text.
pub(crate) type LogLine = (u8, String);

/// Why a component is not compiled; every message is for whoever deploys it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Error)]
pub enum Refusal {
    /// Damaged, or beyond what the host supports.
    #[error("the component is damaged or needs what this host does not support: {0}")]
    Invalid(String),
    /// Components within components.
    #[error("the component has components within components, more than {max} deep")]
    Nesting {
        /// The host's bound.
        max: usize,
    },
    /// Too many functions.
    #[error("the component has more than {max} functions (functions_max)")]
    Functions {
        /// The host's bound.
        max: usize,
    },
    /// One function is too large.
    #[error("the component has a function of {bytes} bytes; at most {max} are taken (function_bytes_max)")]
    Function {
        /// Of its code.
        bytes: usize,
        /// The host's bound.
        max: usize,
    },
    /// Too many tables.
    #[error("the component has {count} tables; at most {max} are taken")]
    Tables {
        /// Of all its modules.
        count: u64,
        /// The host's bound.
        max: u32,
    },
    /// Too many memories.
    #[error("the component has {count} memories; at most {max} are taken")]
    Memories {
        /// Of all its modules.
        count: u64,
        /// The host's bound.
        max: u32,
    },
    /// Imports without a grant.
    #[error("the component imports what it is not granted: {names}")]
    Imports {
        /// All of them.
        names: Names,
    },
    /// Nothing that the host calls.
    #[error(
        "the component exports none of `sandmill:plugin/preprocess@0.1.0`, `sandmill:plugin/postprocess@0.1.0` and \
         `sandmill:plugin/handler@0.1.0`, but {exports}"
    )]
    NothingExported {
        /// What there is.
        exports: Names,
    },
    /// Two ways to answer one request.
    #[error("the component exports `handler`, which answers whole requests, and `preprocess` or `postprocess` as well")]
    TwoShapes,
    /// Its `init` gave an error: the plugin's own words.
    #[error("the plugin's init refuses: {0}")]
    Init(String),
    /// Its `init` failed.
    #[error("the plugin's init failed: {0}")]
    InitFailed(String),
}

/// Names of a component's: the first of so many that nobody would read them all, since it may have a million.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// The first ones, printable.
    pub first: Vec<String>,
    /// How many there are besides.
    pub more: usize,
}

/// How many imports and exports are told of a component that is right, which has some thirty.
const INTERFACES_MAX: usize = 48;

/// The names of interfaces, for the catalog.
pub(crate) fn interfaces(names: &[&str]) -> Vec<String> {
    names.iter().take(INTERFACES_MAX).map(|name| printable(name, NAME_BYTES_MAX)).collect()
}

/// How many names are told, and what of each.
const NAMES_MAX: usize = 24;
const NAME_BYTES_MAX: usize = 128;

impl Names {
    pub(crate) fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut names = names.into_iter();
        let first = names.by_ref().take(NAMES_MAX).map(|name| printable(name, NAME_BYTES_MAX)).collect();
        Self { first, more: names.count() }
    }
}

impl Display for Names {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match (self.first.is_empty(), self.more) {
            (true, _) => write!(formatter, "nothing at all"),
            (false, 0) => write!(formatter, "{}", self.first.join(", ")),
            (false, more) => write!(formatter, "{} and {more} more", self.first.join(", ")),
        }
    }
}

/// Of words that a stranger's names may be in.
const WORDS_BYTES_MAX: usize = 1 << 10;

impl Refusal {
    /// [`Refusal::Invalid`] in the words of whoever read it: they may quote the component.
    pub(crate) fn invalid(words: &str) -> Self {
        Self::Invalid(printable(words, WORDS_BYTES_MAX))
    }
}

impl Snapshot {
    /// [`Snapshot::Impossible`], likewise.
    pub(crate) fn impossible(words: &str) -> Self {
        Self::Impossible(printable(words, WORDS_BYTES_MAX))
    }
}
