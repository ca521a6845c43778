//! What is settled for the whole process before it has a second thread: its environment and its file descriptors.
#![allow(unsafe_code, reason = "the environment can be changed safely only while there is one thread, which no type can say")]

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are neither connections nor bound by a setting: libraries, logs, models while they are read.
const DESCRIPTORS_RESERVED: u64 = 64;

/// Tells ONNX Runtime, before it is loaded, not to report to its makers: its library would write an identifier of this machine
/// to the user's cache folder and send events, whatever its own interface for that was told.
///
/// To be called first in `main`.
pub(crate) fn forbid_telemetry() {
    // SAFETY: called first in `main`, when the process has one thread: nobody reads the environment meanwhile.
    unsafe { std::env::set_var("ORT_DISABLE_TELEMETRY", "1") };
}

/// Takes as many file descriptors as the system grants, and says so if they are too few for this many connections: the
/// control listener would be out of them too.
pub(crate) fn take_descriptors(connections_max: u64) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let granted = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    let needed = connections_max.saturating_add(DESCRIPTORS_RESERVED);
    if granted.is_some_and(|granted| granted < needed) {
        tracing::warn!(
            granted,
            needed,
            "too few file descriptors for all connections: raise `ulimit -n` or lower connections_max"
        );
    }
}
