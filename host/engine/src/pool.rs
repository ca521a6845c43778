//! Lends the buffers that tensors are decoded into, from a pool that is bounded twice: in what is lent and in what lies idle.
//! Knows nothing of tensors.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use sandmill_domain::ports::Home;
use sandmill_domain::{Buffer, Code, Fault, Lender};

use crate::lock;

/// The bytes of a word.
const WORD: usize = size_of::<u64>();
/// The smallest size class, in words: below it the bookkeeping costs more than the memory.
const CLASS_WORDS_MIN: usize = 32;

/// A pool of buffers in size classes, powers of two of 8-byte words from 256 bytes up.
#[derive(Debug)]
pub(crate) struct Pool {
    shelves: Arc<Shelves>,
}

#[derive(Debug)]
struct Shelves {
    lent_bytes_max: usize,
    idle_bytes_max: usize,
    stock: Mutex<Stock>,
}

#[derive(Debug, Default)]
struct Stock {
    lent_bytes: usize,
    idle_bytes: usize,
    /// Idle memory, by the words of its class.
    idle: BTreeMap<usize, Vec<Vec<u64>>>,
}

impl Pool {
    /// A pool that lends at most `lent_bytes_max` at once, counted in whole size classes, and keeps at most `idle_bytes_max`.
    pub(crate) fn new(lent_bytes_max: usize, idle_bytes_max: usize) -> Self {
        Self { shelves: Arc::new(Shelves { lent_bytes_max, idle_bytes_max, stock: Mutex::default() }) }
    }
}

impl Lender for Pool {
    fn lend(&self, capacity: usize) -> Result<Buffer, Fault> {
        if capacity == 0 {
            return Ok(Buffer::new(Vec::new(), 0, None));
        }
        let words = class(capacity).ok_or_else(exhausted)?;
        let idle = self.shelves.book_out(words)?;
        // Zeroed pages come from the kernel as they are touched; what a reused buffer held before cannot be read.
        let memory = idle.unwrap_or_else(|| vec![0; words]);
        Ok(Buffer::new(memory, capacity, Some(Arc::clone(&self.shelves) as Arc<dyn Home>)))
    }
}

/// The words of the smallest class that holds so many bytes; none if the address space cannot.
fn class(bytes: usize) -> Option<usize> {
    let words = bytes.div_ceil(WORD).checked_next_power_of_two()?.max(CLASS_WORDS_MIN);
    words.checked_mul(WORD).filter(|bytes| isize::try_from(*bytes).is_ok()).map(|_| words)
}

fn exhausted() -> Fault {
    Fault::new(Code::Overloaded, "the host has no memory left for tensors")
}

impl Shelves {
    /// Counts a buffer of this class as lent, and gives an idle one if there is any.
    fn book_out(&self, words: usize) -> Result<Option<Vec<u64>>, Fault> {
        let mut stock = lock(&self.stock);
        let lent_bytes = stock.lent_bytes.saturating_add(words * WORD);
        if lent_bytes > self.lent_bytes_max {
            return Err(exhausted());
        }
        stock.lent_bytes = lent_bytes;
        let memory = stock.idle.get_mut(&words).and_then(Vec::pop);
        if memory.is_some() {
            stock.idle_bytes -= words * WORD;
        }
        Ok(memory)
    }

    /// Counts it as given back, and keeps it if it fits; what does not is the caller's to free, outside the lock.
    fn book_in(&self, memory: Vec<u64>) -> Option<Vec<u64>> {
        let mut stock = lock(&self.stock);
        let bytes = memory.len() * WORD;
        stock.lent_bytes -= bytes;
        if stock.idle_bytes + bytes > self.idle_bytes_max {
            return Some(memory);
        }
        stock.idle_bytes += bytes;
        stock.idle.entry(memory.len()).or_default().push(memory);
        None
    }
}

impl Home for Shelves {
    fn take_back(&self, words: Vec<u64>) {
        drop(self.book_in(words));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(pool: &Pool) -> (usize, usize) {
        let stock = lock(&pool.shelves.stock);
        (stock.lent_bytes, stock.idle_bytes)
    }

    #[test]
    fn what_is_lent_is_bounded_by_whole_classes() {
        let pool = Pool::new(1024, 1024);
        let first = pool.lend(257).unwrap();
        let second = pool.lend(512).unwrap();
        assert_eq!(counts(&pool), (1024, 0));
        let fault = pool.lend(1).unwrap_err();
        assert_eq!(fault.code, Code::Overloaded);
        assert_eq!(pool.lend(0).unwrap().capacity(), 0);
        drop((first, second));
        assert_eq!(pool.lend(1024).unwrap().capacity(), 1024);
    }

    #[test]
    fn what_lies_idle_is_bounded_and_used_again() {
        let pool = Pool::new(4096, 768);
        let lent: Vec<_> = (0..3).map(|_| pool.lend(512).unwrap()).collect();
        drop(lent);
        assert_eq!(counts(&pool), (0, 512));
        drop(pool.lend(100).unwrap());
        assert_eq!(counts(&pool), (0, 768));
        let reused = pool.lend(300).unwrap();
        assert_eq!(counts(&pool), (512, 256));
        drop(reused);
        assert_eq!(counts(&pool), (0, 768));
    }

    #[test]
    fn sizes_that_no_memory_has_are_refused() {
        let pool = Pool::new(usize::MAX, 0);
        for capacity in [usize::MAX, isize::MAX as usize + 1, usize::MAX - 6] {
            assert_eq!(pool.lend(capacity).unwrap_err().code, Code::Overloaded, "{capacity}");
        }
    }

    #[test]
    fn memory_comes_back_when_the_last_view_goes() {
        let pool = Pool::new(256, 256);
        let mut buffer = pool.lend(16).unwrap();
        buffer.push(&[7; 16]).unwrap();
        let view = buffer.freeze();
        assert!(pool.lend(1).is_err());
        drop(view);
        let fresh = pool.lend(16).unwrap();
        assert!(fresh.as_ref().is_empty());
    }
}
