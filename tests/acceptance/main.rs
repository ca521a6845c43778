//! The acceptance tests: the real binary, real models, real plugins, real sockets. Each module is one promise.

mod bad_input;
mod clients;
mod command_line;
mod drain;
mod functions;
mod harness;
mod hostile;
mod open_inference;
mod startup;
mod wasi;
