//! The protocol from outside: what requests are taken and refused, and that what is written reads back. Nothing here
//! opens a socket or runs a model.

mod common;
mod forms;
mod hostile;
mod never_panics;
mod replies;
mod round_trip;
mod wishes;
