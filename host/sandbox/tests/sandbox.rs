//! The sandbox from outside: good plugins, hostile ones, and what is refused at load.

mod cases;
mod guest;
mod harness;
