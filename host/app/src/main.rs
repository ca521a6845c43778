//! The `sandmill` binary.
fn main() {}
