//! What an instance's memory may grow to. Knows nothing of time or of what is in the memory.

use wasmtime::ResourceLimiter;

/// Counts the linear memories of one instance together.
pub(crate) struct MemoryLimit {
    bytes: usize,
    bytes_max: usize,
    /// Whether the guest was ever refused memory: then that is the likely reason of what it does next.
    pub(crate) refused: bool,
}

impl MemoryLimit {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes: 0, bytes_max, refused: false }
    }
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let bytes = self.bytes.saturating_add(desired.saturating_sub(current));
        if bytes > self.bytes_max || maximum.is_some_and(|maximum| desired > maximum) {
            self.refused = true;
            return Ok(false);
        }
        self.bytes = bytes;
        Ok(true)
    }

    fn table_growing(&mut self, _current: usize, _desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        // The pool bounds each table's elements and each component's tables.
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_count_together() {
        let mut limit = MemoryLimit::new(100);
        assert!(limit.memory_growing(0, 60, None).unwrap());
        assert!(limit.memory_growing(0, 40, None).unwrap());
        assert!(!limit.refused);
        assert!(!limit.memory_growing(60, 61, None).unwrap());
        assert!(limit.refused);
    }

    #[test]
    fn growth_beyond_the_pool_is_not_counted() {
        let mut limit = MemoryLimit::new(100);
        assert!(!limit.memory_growing(0, 60, Some(50)).unwrap());
        assert!(limit.memory_growing(0, 100, None).unwrap());
    }
}
