//! The edge over real sockets, in front of a service made for the tests. Knows nothing of the edge's insides.

#![allow(clippy::unwrap_used, reason = "a failed expectation is how tests speak, their helpers included")]

mod calls;
mod client;
mod drain;
mod fake;
mod fake_keys;
mod fake_plane;
mod http2;
mod keys;
mod limits;
mod paths;
mod plane;
mod plane_bodies;
mod plane_description;
mod plane_tenants;
mod reload;
mod secrets;
mod server;
mod tls;
