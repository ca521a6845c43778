//! The child's side: bound oneself, read the job, answer.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use rustix::process::{DumpableBehavior, Signal, set_dumpable_behavior, set_parent_process_death_signal};
use rustix::thread::set_no_new_privs;

use crate::limits::{LIMITS_BYTES, take};
use crate::message;

/// Serves the one job that the parent sends over standard input, a socket, and answers over it. To be called first thing in a
/// process that [`crate::Quarantine`] has started.
///
/// The exit code says whether there was an answer; the words are on standard error, which the parent reads.
pub fn serve(work: impl FnOnce(&[u8]) -> Vec<u8>) -> ExitCode {
    match answer(work) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _nobody_reads = writeln!(io::stderr(), "this process serves its parent alone: {error}");
            ExitCode::FAILURE
        }
    }
}

fn answer(work: impl FnOnce(&[u8]) -> Vec<u8>) -> io::Result<()> {
    let mut parent = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    set_parent_process_death_signal(Some(Signal::KILL))?;
    set_no_new_privs(true)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    std::env::set_current_dir("/")?;
    let mut limits = [0; LIMITS_BYTES];
    parent.read_exact(&mut limits)?;
    take(&limits)?;
    // Its length is the parent's word, and its memory is bounded by now.
    let job = message::read(&mut parent, u64::MAX)?.ok_or(io::ErrorKind::InvalidData)?;
    message::write(&mut parent, &work(&job))
}
