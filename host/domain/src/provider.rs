//! Where a model is to run, and how much is done to its graph before: plain words, what they mean to a runtime is the engine's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Who runs a model's nodes, as a function asks for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provider {
    /// `cpu`, `cuda`, `tensorrt`, or the name that the host's operator has given a library.
    pub name: String,
    /// The number of its device; the first without one.
    pub device: Option<u32>,
    /// The memory that it may take of its device; as much as the host gives without one.
    pub memory_bytes_max: Option<usize>,
    /// How that memory grows.
    pub arena: Option<Arena>,
    /// Whether it may compute with numbers of 16 bits where the model has more.
    pub fp16: bool,
    /// The shapes that it is compiled for.
    pub shapes: Option<ProfileShapes>,
    /// Options by the provider's own names; which it may be given is not checked.
    pub options: BTreeMap<String, String>,
}

impl Provider {
    /// The one of this name, as it is by default.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            device: None,
            memory_bytes_max: None,
            arena: None,
            fp16: false,
            shapes: None,
            options: BTreeMap::new(),
        }
    }

    /// The one that every host has.
    pub fn cpu() -> Self {
        Self::named("cpu")
    }
}

/// How a provider's memory grows when it needs more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Arena {
    /// By ever larger steps: fewer of them, and more memory.
    NextPowerOfTwo,
    /// By what is asked for.
    SameAsRequested,
}

/// The shapes that a model is compiled for: `input:1x3x224x224,other:1x8` for each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileShapes {
    /// The smallest.
    pub min: String,
    /// Those that it is made quick for.
    pub opt: String,
    /// The largest.
    pub max: String,
}

/// How much is done to a model's graph before it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Optimization {
    /// All that the runtime can do.
    #[default]
    All,
    /// Nothing to the layout of tensors.
    Extended,
    /// Only what certainly means the same.
    Basic,
    /// Nothing, and nothing is compiled: every node runs as the file has it, under its own name.
    Debug,
}

impl Optimization {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Extended => "extended",
            Self::Basic => "basic",
            Self::Debug => "debug",
        }
    }
}
