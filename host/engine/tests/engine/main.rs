//! The engine on real models, through the port that the pipeline uses.
#![allow(clippy::unwrap_used, reason = "a failed expectation is how a test speaks")]

mod answers;
mod batching;
mod endings;
mod harness;
mod lifecycle;
mod padding;
mod providers;
mod refusals;
