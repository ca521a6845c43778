//! The vocabulary of the house, and the ports where its rooms meet.
//!
//! Every other crate speaks in these types and reaches the others through [`ports`]. Nothing here does I/O, knows a wire
//! format, or depends on wasmtime, ONNX Runtime, hyper or tokio.

mod axes;
mod batch;
mod bodies;
mod breaker;
mod buffer;
mod bundle;
pub mod control;
mod deadline;
mod dtype;
pub mod fair;
mod fault;
mod grants;
mod identity;
mod journal;
mod lifecycle;
mod limits;
mod message;
mod name;
pub mod ports;
mod provider;
mod rate;
mod signature;
mod tensor;
pub mod turns;
mod urgency;
mod usage;

pub use axes::{AXIS_MAX, AxisRule, Pad, PadValue};
pub use batch::{Batch, BatchReason, Batching};
pub use bodies::{Bodies, BodyShare};
pub use breaker::{BreakerLimits, BreakerState};
pub use buffer::{Buffer, Lender};
pub use bundle::{Asset, Setting};
pub use deadline::Deadline;
pub use dtype::Dtype;
pub use fault::{Advice, Blame, Code, Fault};
pub use grants::{Grants, GrantsMax, Origin, OriginError};
pub use identity::{Caller, Scope};
pub use journal::{Journal, JournalLine, Level};
pub use lifecycle::{BatchSize, FailureKind, ModelEvent, ModelProfile, ModelStage, ModelState, RecycleReason, UnloadReason};
pub use limits::{FunctionLimits, InstanceBudget, InstancePolicy, PluginLimits, TenantLimits};
pub use message::{Header, Reply, Request, RequestHead};
pub use name::{FunctionName, Label, LabelError, NameError, ReleaseNumber, TenantId};
pub use provider::{Arena, Optimization, ProfileShapes, Provider};
pub use rate::Bucket;
pub use signature::{Axis, Mismatch, ModelInfo, Signature, TensorSpec};
pub use tensor::{Tensor, Truncated, byte_strings, element_count};
pub use urgency::{Priority, Urgency, Wish};
pub use usage::Usage;
