//! What the plugin has for a source of randomness: none. `tokenizers` seeds its hash tables, whose keys are those of a
//! vocabulary that everybody may read, so that nothing is lost if the seeds are always the same.
#![allow(unsafe_code, reason = "the backend that getrandom asks for is an unmangled function")]

use getrandom::Error;

/// The seed: of no meaning but that it is not zero.
const BYTE: u8 = 0x5a;

/// Fills `length` bytes with a constant: not for keys or other secrets.
// SAFETY: getrandom 0.3 names this function as its custom backend, and none other is linked.
#[unsafe(no_mangle)]
unsafe extern "Rust" fn __getrandom_v03_custom(start: *mut u8, length: usize) -> Result<(), Error> {
    // SAFETY: getrandom hands over a buffer of this length that may be written.
    unsafe { start.write_bytes(BYTE, length) };
    Ok(())
}
