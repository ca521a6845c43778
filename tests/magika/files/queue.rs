//! A bounded queue.
use std::collections::VecDeque;

/// Holds at most `bound` items.
#[derive(Debug, Default)]
pub struct Bounded<T> {
    items: VecDeque<T>,
    bound: usize,
}

impl<T> Bounded<T> {
    pub fn push(&mut self, item: T) -> Result<(), T> {
        if self.items.len() == self.bound {
            return Err(item);
        }
        self.items.push_back(item);
        Ok(())
    }

    pub fn pop(&mut self) -> Option<T> {
        self.items.pop_front()
    }
}
