//! One file per kind of plugin.

mod calls;
mod hostile;
mod lies;
mod loading;
mod wasi;
