//! What an instance's memories and tables may grow to. Knows nothing of time or of what is in them.

use sandmill_domain::PluginLimits;
use wasmtime::ResourceLimiter;

/// Counts the linear memories of one instance together, and its tables.
pub(crate) struct GrowthLimit {
    bytes: usize,
    bytes_max: usize,
    elements: usize,
    elements_max: usize,
    refused: Option<Refused>,
}

/// What a guest was refused: the likely reason of what it does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Memory,
    Table,
}

impl GrowthLimit {
    pub(crate) fn new(limits: &PluginLimits) -> Self {
        let (bytes_max, elements_max) = (limits.memory_bytes_max, limits.table_elements_max);
        Self { bytes: 0, bytes_max, elements: 0, elements_max, refused: None }
    }

    /// The linear memory that there is, in bytes; it never shrinks.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What the guest was last refused.
    pub(crate) fn refused(&self) -> Option<Refused> {
        self.refused
    }

    /// For the next request of the same instance: what was refused to the last one is no excuse for this one.
    pub(crate) fn forget_refusals(&mut self) {
        self.refused = None;
    }

    /// From here on nothing is refused: for what the host itself does in an instance that has ended.
    pub(crate) fn lift(&mut self) {
        self.bytes_max = usize::MAX;
    }
}

impl ResourceLimiter for GrowthLimit {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let bytes = self.bytes.saturating_add(desired.saturating_sub(current));
        if bytes > self.bytes_max || maximum.is_some_and(|maximum| desired > maximum) {
            self.refused = Some(Refused::Memory);
            return Ok(false);
        }
        self.bytes = bytes;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let elements = self.elements.saturating_add(desired.saturating_sub(current));
        if elements > self.elements_max || maximum.is_some_and(|maximum| desired > maximum) {
            self.refused = Some(Refused::Table);
            return Ok(false);
        }
        self.elements = elements;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit() -> GrowthLimit {
        GrowthLimit::new(&PluginLimits { memory_bytes_max: 100, table_elements_max: 10, ..PluginLimits::default() })
    }

    #[test]
    fn memories_count_together() {
        let mut limit = limit();
        assert!(limit.memory_growing(0, 60, None).unwrap());
        assert!(limit.memory_growing(0, 40, None).unwrap());
        assert_eq!((limit.refused(), limit.bytes()), (None, 100));
        assert!(!limit.memory_growing(60, 61, None).unwrap());
        assert_eq!((limit.refused(), limit.bytes()), (Some(Refused::Memory), 100));
        limit.forget_refusals();
        limit.lift();
        assert!(limit.memory_growing(60, 61, None).unwrap());
    }

    #[test]
    fn growth_beyond_the_pool_is_not_counted() {
        let mut limit = limit();
        assert!(!limit.memory_growing(0, 60, Some(50)).unwrap());
        assert!(limit.memory_growing(0, 100, None).unwrap());
    }

    #[test]
    fn tables_count_together() {
        let mut limit = limit();
        assert!(limit.table_growing(0, 6, None).unwrap());
        assert!(limit.table_growing(0, 4, None).unwrap());
        assert!(!limit.table_growing(4, 5, None).unwrap());
        assert_eq!(limit.refused(), Some(Refused::Table));
    }
}
