//! The durable half of the catalog: one log of records per tenant in an object store, blobs beside them, and the state that they
//! add up to in memory.
//!
//! Nothing that was acknowledged is lost, and two hosts never believe different things of the same revision: a record is created
//! only if its number is absent, and read back. Nothing here knows what plugins and models do.

mod access;
mod blobs;
mod catalog;
mod change;
mod codec;
mod collect;
mod create;
mod doctor;
mod error;
mod failure;
mod ids;
mod layout;
mod local;
mod location;
mod log;
mod open;
mod options;
mod records;
mod state;
mod usage;

pub use access::Store;
pub use blobs::Blobs;
pub use catalog::{Catalog, Snapshot, Staleness};
pub use collect::{Collected, Grace};
pub use doctor::{LogReport, Orphan, Report, Trouble, doctor};
pub use error::StoreError;
pub use ids::{Id, IdError, Place};
pub use layout::Owner;
pub use log::{ChangeError, Head, Log, Revision};
pub use options::StoreOptions;
pub use records::{Author, BlobRef, Entry, Key, Pin, SCHEMA, SystemChange, TenantChange};
pub use state::{
    ABOUT_BYTES_MAX, FILES_MAX, Function, Model, Plugin, RECORD_BYTES_MAX, Refusal, Release, State, SystemState, Tenant,
    TenantState,
};
