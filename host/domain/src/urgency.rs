//! Which of the calls that wait goes first, and by when each must be answered. Knows no queue and no wire format.

use std::time::Duration;

use crate::Deadline;

/// Which of several calls goes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Before all others.
    High,
    /// That of a call which does not say.
    #[default]
    Normal,
    /// After all others.
    Low,
}

impl Priority {
    /// All of them, the first first.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    /// In headers and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }
}

/// What one call is worth to a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Urgency {
    /// After it, nobody wants the answer.
    pub deadline: Deadline,
    /// Among those that wait with it.
    pub priority: Priority,
}

impl From<Deadline> for Urgency {
    fn from(deadline: Deadline) -> Self {
        Self { deadline, priority: Priority::default() }
    }
}

/// What a caller asks for itself; nothing where it does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// Where it wants to stand.
    pub priority: Option<Priority>,
    /// How long it waits for the answer, from its request's head on.
    pub timeout: Option<Duration>,
}
