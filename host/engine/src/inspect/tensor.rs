//! Tensors as far as they are read, dense and sparse, and how large their elements are.

use super::refusal::Refusal;
use super::wire::{Value, texts, varint};

/// numpy's own bound since its version 2; ONNX has none.
const RANK_MAX: usize = 64;

/// A tensor, as far as it was read.
#[derive(Clone, Copy, Default)]
pub(super) struct Dense<'a> {
    pub(super) name: &'a [u8],
    pub(super) shape: Shape,
    pub(super) data_type: u64,
    pub(super) raw_bytes: Option<u64>,
    pub(super) is_external: bool,
    pub(super) location: &'a [u8],
}

impl<'a> Dense<'a> {
    pub(super) fn read_external(&mut self, entry: &'a [u8]) -> Result<(), Refusal> {
        self.is_external = true;
        let [key, value] = texts(entry, [1, 2])?;
        if key == b"location" {
            self.location = value;
        }
        Ok(())
    }
}

/// A sparse tensor, as far as it was read.
#[derive(Default)]
pub(super) struct Sparse<'a> {
    pub(super) values: Option<Dense<'a>>,
    pub(super) indices: Option<Dense<'a>>,
    pub(super) shape: Shape,
}

/// The sizes of a tensor's axes, multiplied as they come.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) rank: usize,
    pub(super) is_negative: bool,
    /// None when they are more than an `i64` counts.
    pub(super) elements: Option<i64>,
}

impl Default for Shape {
    fn default() -> Self {
        Self { rank: 0, is_negative: false, elements: Some(1) }
    }
}

impl Shape {
    /// Protobuf writes a list one by one, or packed, and reads both.
    pub(super) fn read(&mut self, sizes: Value<'_>) -> Result<(), Refusal> {
        match sizes {
            Value::Number(size) => self.push(size.cast_signed()),
            Value::Bytes(mut packed) => {
                while !packed.is_empty() {
                    self.push(varint(&mut packed)?.cast_signed());
                }
            }
            Value::Other => {}
        }
        Ok(())
    }

    pub(super) fn push(&mut self, size: i64) {
        self.rank += 1;
        self.is_negative |= size < 0;
        self.elements = self.elements.and_then(|elements| elements.checked_mul(size));
    }

    pub(super) fn elements(&self) -> Result<u64, &'static str> {
        if self.rank > RANK_MAX {
            return Err("more than 64 axes");
        }
        if self.is_negative {
            return Err("an axis of a negative size");
        }
        self.elements.and_then(|elements| u64::try_from(elements).ok()).ok_or("more elements than can be counted")
    }
}

/// The width of an element in memory, by the number of its type.
pub(super) fn bits(data_type: u64) -> u64 {
    match data_type {
        2 | 3 | 9 | 17..=20 | 24 => 8,
        4 | 5 | 10 | 16 => 16,
        1 | 6 | 12 => 32,
        7 | 11 | 13 | 14 => 64,
        15 => 128,
        // A C++ string.
        8 => 256,
        21..=23 => 4,
        // Of two bits, or of a type that the runtime will refuse.
        _ => 2,
    }
}

/// The width of an element in the file at least, where it is not raw: integers are as short as their value, a byte for a zero,
/// and halves are written as integers. Floats and what consists of them are not.
pub(super) fn bits_min(data_type: u64) -> u64 {
    match data_type {
        1 | 11 | 14 | 15 => bits(data_type),
        _ => bits(data_type).min(8),
    }
}
