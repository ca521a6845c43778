//! What one child may use: the numbers, their form in a message, and how a process takes them upon itself.

use std::io;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, setrlimit};

/// The bounds of one child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuarantineLimits {
    /// Address space, in bytes: what it maps, used or not.
    pub memory_bytes_max: u64,
    /// Processor time of all its threads together; whole seconds, at least one.
    pub cpu_time: Duration,
    /// Open files, those of its start included.
    pub descriptors_max: u64,
    /// From its start to the end of its answer.
    pub wall_time: Duration,
    /// The answer, in bytes.
    pub answer_bytes_max: u64,
}

impl Default for QuarantineLimits {
    fn default() -> Self {
        Self {
            memory_bytes_max: 4 << 30,
            cpu_time: Duration::from_secs(240),
            descriptors_max: 32,
            wall_time: Duration::from_secs(300),
            answer_bytes_max: 1 << 30,
        }
    }
}

/// The bytes of [`QuarantineLimits::to_bytes`].
pub(crate) const LIMITS_BYTES: usize = 24;

impl QuarantineLimits {
    /// Those that the child takes upon itself; the parent keeps watch over the others.
    pub(crate) fn to_bytes(self) -> [u8; LIMITS_BYTES] {
        let mut bytes = [0; LIMITS_BYTES];
        let numbers = [self.memory_bytes_max, self.cpu_time.as_secs().max(1), self.descriptors_max];
        for (place, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }
}

/// Bounds this process for good: no privilege of ours raises a hard limit again, but root's.
///
/// # Errors
/// If the system refuses a limit.
pub(crate) fn take(bytes: &[u8; LIMITS_BYTES]) -> io::Result<()> {
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("invariant: eight bytes"));
    for (resource, most) in [
        (Resource::As, number(0)),
        (Resource::Cpu, number(8)),
        (Resource::Nofile, number(16)),
        // A dump would write the job's bytes, secrets of a tenant perhaps, to somebody's disk.
        (Resource::Core, 0),
        // It answers by its socket alone.
        (Resource::Fsize, 0),
    ] {
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    Ok(())
}
