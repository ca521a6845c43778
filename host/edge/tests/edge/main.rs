//! The edge over real sockets, in front of a service made for the tests. Knows nothing of the edge's insides.

#![allow(clippy::unwrap_used, reason = "a failed expectation is how tests speak, their helpers included")]

mod calls;
mod client;
mod drain;
mod fake;
mod http2;
mod limits;
mod paths;
mod reload;
mod server;
mod tls;
