//! What can go wrong with the store: a closed list, each with what was wrong, where, and what to do.

use thiserror::Error;

use super::log::Revision;

/// Why an operation on the store failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StoreError {
    /// Nothing happened, and the same may work later.
    #[error("{object}: the store does not answer: {cause}; check that it runs and that this host reaches it")]
    Unreachable {
        /// What was to be read or written, with the store.
        object: String,
        /// As the store's client tells it.
        cause: String,
    },
    /// Nothing happened: this host may not do it.
    #[error("{object}: the store refuses this host: {cause}; check permissions and credentials")]
    Refused {
        /// What was to be read or written, with the store.
        object: String,
        /// As the store's client tells it.
        cause: String,
    },
    /// Nothing happened: there is no space.
    #[error("{object}: the store is full: {cause}; free space, or raise the quota")]
    Full {
        /// What was to be written, with the store.
        object: String,
        /// As the store's client tells it.
        cause: String,
    },
    /// It is there, and not what it must be.
    #[error("{object} is damaged: {what}; restore it from a backup, nothing was changed")]
    Corrupt {
        /// What was read, with the store.
        object: String,
        /// What is wrong with it.
        what: String,
    },
    /// This code must not touch it.
    #[error("{object} was written by a newer Sandmill, in schema {found}; this one knows {known}: update this host")]
    Newer {
        /// What was read, with the store.
        object: String,
        /// The schema that it states.
        found: u64,
        /// The newest that is known here.
        known: u32,
    },
    /// Another writer came first.
    #[error("{log} has changed: it is at revision {present}; read it again, then repeat the change if it is still wanted")]
    Conflict {
        /// Which log, with the store.
        log: String,
        /// Its revision, as far as is known.
        present: Revision,
    },
    /// Two writers could write the same record.
    #[error("{store} does not create objects only if they are absent: {what}; Sandmill needs a store that does")]
    NotConditional {
        /// Which.
        store: String,
        /// What it did.
        what: String,
    },
    /// It said that it had done what it had not.
    #[error("{object}: the store cannot be trusted: {what}; nothing more should be written to it")]
    Unfaithful {
        /// What was written, with the store.
        object: String,
        /// What it said and did.
        what: String,
    },
    /// It is not there.
    #[error("{object} is not there")]
    Missing {
        /// What was to be read, with the store.
        object: String,
    },
    /// It is larger than it may be.
    #[error("{object} is too large: it has {len} bytes, and there may be {max}")]
    TooLarge {
        /// What was to be read or written.
        object: String,
        /// Its size, as far as it was read.
        len: u64,
        /// The bound.
        max: u64,
    },
    /// It may have happened, and may still happen.
    #[error("{object}: nobody can tell whether it was written: {cause}; look before it is tried again")]
    Unknown {
        /// What was to be written, with the store.
        object: String,
        /// As the store's client tells it.
        cause: String,
    },
    /// There is no store of that name.
    #[error("`{location}` names no store: {why}")]
    Location {
        /// As it was given.
        location: String,
        /// What is wrong with it.
        why: String,
    },
    /// A file of this machine, which an upload is read from or a download written to, made trouble.
    #[error("{path}: {cause}")]
    File {
        /// Which.
        path: String,
        /// What is wrong, and what to do.
        cause: String,
    },
}

impl StoreError {
    /// Whether what is in the store is at fault, and no repetition helps.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Corrupt { .. } | Self::Newer { .. } | Self::TooLarge { .. })
    }
}
