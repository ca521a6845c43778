//! Why a change does not follow from a state: a closed list. A writer is told before it writes, a reader finds a broken log by it.

use sandmill_domain::{FunctionName, ReleaseNumber};
use thiserror::Error;

use crate::store::Place;

/// Why a change was not made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Its name is another's.
    #[error("{0} is there already")]
    Taken(String),
    /// What it is about is not there.
    #[error("there is no {0}")]
    Unknown(String),
    /// A tenant's name is not given twice: who gets it would find what the other left.
    #[error("the name of tenant `{0}`, which was removed, is not given again")]
    Removed(String),
    /// Releases are numbered without gaps.
    #[error("the next release of `{function}` is {next}, not {number}")]
    NotNext {
        /// Whose.
        function: FunctionName,
        /// What was asked for.
        number: ReleaseNumber,
        /// What it would have to be.
        next: ReleaseNumber,
    },
    /// It is not among the kept ones.
    #[error("release {number} of `{function}` is not kept: there are {kept}")]
    NotKept {
        /// Whose.
        function: FunctionName,
        /// What was asked for.
        number: ReleaseNumber,
        /// Those that are, the current one first.
        kept: String,
    },
    /// There is nothing to roll back.
    #[error("release {number} of `{function}` is the current one already")]
    Current {
        /// Whose.
        function: FunctionName,
        /// Which.
        number: ReleaseNumber,
    },
    /// A kept release is made of it.
    #[error("{what} is in use: release {number} of `{function}` is made of it")]
    Pinned {
        /// What was to be removed.
        what: String,
        /// Whose release.
        function: FunctionName,
        /// Which.
        number: ReleaseNumber,
    },
    /// What is deleted may not be named.
    #[error("upload {0} is being deleted, or was made too long ago to be named: upload it again")]
    Condemned(Place),
    /// What is named may not be deleted.
    #[error("upload {0} is in use")]
    InUse(Place),
    /// One place has one content.
    #[error("upload {0} has another digest or length")]
    OtherBytes(Place),
    /// Without it nobody could manage tenants any more.
    #[error("it is the last operator's key, without which nobody could manage tenants any more: make another first")]
    LastKey,
    /// There are as many as there may be.
    #[error("too many {what}: there may be {max}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        max: usize,
    },
    /// Whoever changes it has bounds of its own.
    #[error("the tenant is at a quota: {0}")]
    Quota(String),
    /// It is longer than it may be.
    #[error("{what} is too long: there may be {max} bytes")]
    TooLong {
        /// What.
        what: &'static str,
        /// How long.
        max: usize,
    },
    /// It has not the form that it must have.
    #[error("{what} does not serve: {why}")]
    Malformed {
        /// What.
        what: String,
        /// What is expected.
        why: &'static str,
    },
}
