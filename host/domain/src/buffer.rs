//! The memory that tensors are decoded into: lent by the engine, filled by others, given back when dropped.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::Fault;

/// Lends buffers from a bounded pool. Implemented by the engine, so that the memory can later be shared with a worker.
pub trait Lender: Send + Sync {
    /// An empty buffer with room for exactly `capacity` bytes, aligned for every dtype (8 bytes).
    ///
    /// # Errors
    /// [`crate::Code::Overloaded`] when the bytes lent out in all would pass the pool's bound.
    fn lend(&self, capacity: usize) -> Result<Buffer, Fault>;
}

/// Takes the memory of a [`Buffer`] back.
pub trait Home: Send + Sync {
    /// Called once, with what was passed to [`Buffer::new`].
    fn take_back(&self, words: Vec<u64>);
}

/// Lent memory: written once from front to back, then frozen. What was not written cannot be read, so a reused buffer
/// does not show what it held before.
pub struct Buffer {
    words: Vec<u64>,
    capacity: usize,
    len: usize,
    home: Option<Arc<dyn Home>>,
}

impl Buffer {
    /// A buffer of `capacity` bytes over `words`, which holds at least so many and goes back to `home`.
    ///
    /// # Panics
    /// If `words` is too short: a bug of the lender.
    pub fn new(words: Vec<u64>, capacity: usize, home: Option<Arc<dyn Home>>) -> Self {
        assert!(words.len().saturating_mul(8) >= capacity, "invariant: a lender gives the capacity it was asked for");
        Self { words, capacity, len: 0, home }
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// Gives back how many bytes had room when not all have; nothing is written then.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), usize> {
        let room = self.capacity - self.len;
        if bytes.len() > room {
            return Err(room);
        }
        let start = self.len;
        self.len += bytes.len();
        bytemuck::cast_slice_mut::<u64, u8>(&mut self.words)[start..self.len].copy_from_slice(bytes);
        Ok(())
    }

    /// How many bytes are written.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is written yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many bytes fit in all.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The written bytes, shareable and immutable; the memory goes home when the last view is dropped. No copy.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &bytemuck::cast_slice::<u64, u8>(&self.words)[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            home.take_back(std::mem::take(&mut self.words));
        }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("len", &self.len).field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Shelf(Mutex<Vec<Vec<u64>>>);

    impl Home for Shelf {
        fn take_back(&self, words: Vec<u64>) {
            self.0.lock().expect("no panic under the lock").push(words);
        }
    }

    #[test]
    fn what_was_not_written_cannot_be_read() {
        let mut buffer = Buffer::new(vec![u64::MAX; 2], 12, None);
        buffer.push(&[1, 2, 3]).expect("there is room");
        assert_eq!(buffer.push(&[0; 10]), Err(9));
        assert_eq!(buffer.as_ref(), [1, 2, 3]);
        buffer.push(&[4; 9]).expect("there is room");
        assert_eq!(buffer.freeze().len(), 12);
    }

    #[test]
    fn memory_goes_home_with_the_last_view() {
        let shelf = Arc::new(Shelf::default());
        let mut buffer = Buffer::new(vec![0; 2], 16, Some(Arc::clone(&shelf) as Arc<dyn Home>));
        buffer.push(&[7; 16]).expect("there is room");
        let view = buffer.freeze();
        let part = view.slice(4..8);
        drop(view);
        assert!(shelf.0.lock().expect("no panic under the lock").is_empty());
        drop(part);
        assert_eq!(shelf.0.lock().expect("no panic under the lock").len(), 1);
    }
}
