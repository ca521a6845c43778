//! The acceptance tests: the real binary, real models, real plugins, real sockets. Each module is one promise.

mod bad_input;
mod bounds;
mod breaker;
mod buckets;
mod clients;
mod command_line;
mod drain;
mod functions;
#[path = "../../host/sandbox/tests/guest/mod.rs"]
mod guest;
mod handlers;
mod harness;
mod hostile;
#[path = "../guests/hostile.rs"]
mod hostile_guests;
mod loading;
mod models;
mod open_inference;
mod records;
mod releases;
mod repository;
mod startup;
mod store;
mod tenants;
mod terminal;
mod terminal_troubles;
mod uploads;
mod wasi;
