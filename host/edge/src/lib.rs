//! Sockets, TLS and HTTP: accepts connections under a bound, asks the service whether a request may come in before it reads a
//! body, and turns what comes back into a response and a record.
//!
//! It speaks to [`sandmill_domain::ports::Service`] alone: it knows no plugin, model, pipeline or catalog.

mod activity;
mod buffered;
mod connection;
mod control;
mod delivery;
mod exchange;
mod io;
mod linger;
mod listen;
mod options;
mod reload;
mod request;
mod routes;
mod serve;
mod shared;
mod status;
mod tls;
mod upload;

pub use listen::BindError;
pub use options::{EdgeLimits, EdgeOptions, TlsFiles};
pub use serve::{Addresses, Drained, Edge};
pub use tls::{TlsError, TlsFile};
