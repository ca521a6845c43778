//! One file per kind of plugin.

mod calls;
mod handling;
mod hostile;
mod lies;
mod loading;
mod outgoing;
mod starting;
mod wasi;
