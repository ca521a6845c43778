//! Child processes of this same binary, under hard limits, fed and answering with bytes.
//!
//! [`Quarantine`] is for work on a stranger's bytes that cannot be bounded in the process itself: the parent hands a job to a
//! fresh child ([`Quarantine::run`]), the child bounds itself before it reads the job ([`serve`]), answers and ends. Whatever
//! becomes of the child, the parent gets bytes or a [`Death`] with a reason. Knows processes, limits and messages, not what
//! runs in them.

mod child;
mod limits;
mod message;
mod quarantine;
mod turns;
mod urgency;

pub use child::serve;
pub use limits::QuarantineLimits;
pub use quarantine::{Death, Program, Quarantine};
pub use urgency::{idle as run_when_idle, lower_haste};
