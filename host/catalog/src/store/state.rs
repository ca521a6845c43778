//! What logs add up to: pure, with neither clock nor I/O. Writers apply a change before they append it, readers after they have
//! read it: what one accepts, all accept.

mod bounds;
mod changes;
mod keys;
mod ledger;
mod refusal;
mod system;
mod tenant;

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use bounds::CONDEMNED_MAX;
pub use bounds::{ABOUT_BYTES_MAX, FILES_MAX, RECORD_BYTES_MAX};
pub use refusal::Refusal;
pub use system::{SystemState, Tenant};
pub use tenant::{Function, Model, Plugin, Release, TenantState};

use super::records::Entry;

/// A state that a log of changes makes, beginning with the empty one.
pub trait State: Clone + Debug + Default + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// What changes it.
    type Change: Clone + Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static;

    /// Makes the change.
    ///
    /// # Errors
    /// If it does not follow; the state is as it was.
    fn apply(&mut self, entry: &Entry<Self::Change>) -> Result<(), Refusal>;
}
