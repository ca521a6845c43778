//! Sockets, TLS and HTTP: accepts connections under a bound, asks who calls and whether a request may come in before it reads a
//! body, and turns what comes back into a response and a record.
//!
//! It speaks to the ports [`sandmill_domain::ports::Service`], [`sandmill_domain::ports::Keys`] and
//! [`sandmill_domain::ports::Control`] alone: it knows no plugin, model, pipeline or catalog.

mod activity;
mod again;
mod archive;
mod connection;
mod control;
mod delivery;
mod digest;
mod exchange;
mod io;
mod keys;
mod linger;
mod listen;
mod options;
mod plane;
mod plane_head;
mod plane_log;
mod plane_paths;
mod reload;
mod repository;
mod request;
mod routes;
mod serve;
mod shared;
mod status;
mod tls;
mod upload;

pub use listen::BindError;
pub use options::{EdgeLimits, EdgeOptions, TlsFiles};
pub use serve::{Addresses, Drained, Edge, EdgeParts};
pub use tls::{TlsError, TlsFile};
