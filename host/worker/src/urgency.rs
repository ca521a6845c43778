//! How urgent a child, or a thread that makes something for later, is to the kernel: less than any thread that carries requests.
#![allow(unsafe_code, reason = "no crate wraps sched_setattr: see the one call of it")]

use std::{io, mem};

use rustix::process::{getpriority_process, setpriority_process};

/// Nine parts of ten of a busy processor are the requests'. At 19 a busy host would hardly compile at all.
const NICENESS: i32 = 10;
/// Of `sched_attr` up to its period.
const ATTR_BYTES: u32 = 48;
/// Longer than the kernel's default, 2.8 ms: a thread that wakes up takes the processor at once from one that asked for a longer
/// slice than its own, and else waits until that slice is over (EEVDF's PREEMPT_SHORT, Linux 6.12; before it, nobody can ask).
/// Not much longer, since one that has had more than its share has to wait all the same: at 100 ms some calls did.
const SLICE_NS: u64 = 3_000_000;

/// Makes this thread less urgent, and what it starts.
///
/// # Errors
/// What the system says.
pub(crate) fn lower() -> io::Result<()> {
    let niceness = getpriority_process(None)?.max(NICENESS);
    setpriority_process(None, niceness)?;
    // SAFETY: a structure of plain numbers, for which zero is the kernel's own default.
    let zeros: libc::sched_attr = unsafe { mem::zeroed() };
    // Its size is the one that the first kernel with this call knew, and all later ones take.
    let asked = libc::sched_attr { size: ATTR_BYTES, sched_nice: niceness, sched_runtime: SLICE_NS, ..zeros };
    // SAFETY: the kernel reads as many bytes of `asked` as that says it has, and writes none. A kernel or container that refuses
    // leaves all as it was, which only costs requests some milliseconds.
    let _refused = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const asked, 0) };
    Ok(())
}

/// Lets threads that wake up have this one's processor at once, as far as the kernel thinks it fair: it works for long, and they for
/// short. Its share stays what it is. What the kernel refuses only costs those others some milliseconds.
pub fn lower_haste() {
    let niceness = getpriority_process(None).unwrap_or(0);
    // SAFETY: a structure of plain numbers, for which zero is the kernel's own default.
    let zeros: libc::sched_attr = unsafe { mem::zeroed() };
    let asked = libc::sched_attr { size: ATTR_BYTES, sched_nice: niceness, sched_runtime: SLICE_NS, ..zeros };
    // SAFETY: as above.
    let _refused = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const asked, 0) };
}

/// Makes this thread, and what it starts, run only when no other thread wants its processor.
///
/// # Errors
/// What the system says.
pub fn idle() -> io::Result<()> {
    // SAFETY: a structure of plain numbers, for which zero is the kernel's own default.
    let zeros: libc::sched_attr = unsafe { mem::zeroed() };
    let policy = u32::try_from(libc::SCHED_IDLE).unwrap_or_default();
    let asked = libc::sched_attr { size: ATTR_BYTES, sched_policy: policy, ..zeros };
    // SAFETY: as above.
    let refused = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const asked, 0) };
    if refused == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// Of this thread alone, as Linux has it.
    fn niceness() -> i32 {
        getpriority_process(None).unwrap()
    }

    #[test]
    fn a_thread_that_runs_when_others_do_not_still_ends() {
        let policy = || std::fs::read_to_string("/proc/thread-self/stat").unwrap().rsplit(' ').nth(11).map(str::to_owned);
        let before = policy();
        let idle = thread::spawn(move || {
            idle().unwrap();
            policy()
        });
        assert_eq!(idle.join().unwrap().as_deref(), Some("5"), "SCHED_IDLE");
        assert_ne!(before.as_deref(), Some("5"), "it was another thread's");
    }

    #[test]
    fn a_thread_becomes_less_urgent_and_never_more() {
        let lowered = thread::spawn(|| {
            lower().unwrap();
            let once = niceness();
            setpriority_process(None, 15).unwrap();
            lower().unwrap();
            (once, niceness())
        });
        let before = niceness();
        assert_eq!(lowered.join().unwrap(), (before.max(NICENESS), 15));
        assert_eq!(niceness(), before, "it was another thread's");
    }
}
