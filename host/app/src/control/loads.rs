//! Which release is loaded next, of those that the catalog says should be: so many at once, and where tenants compete, one whose
//! tenant has fewest under way. What one tenant's takes, or whether it ends, is no matter of the others'.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sandmill_domain::TenantId;
use tokio::sync::oneshot;

/// Loads under way and waiting.
pub(crate) struct Loads {
    all: Mutex<All>,
}

struct All {
    free: usize,
    running: HashMap<TenantId, usize>,
    /// In the order in which they came.
    waiting: Vec<(TenantId, oneshot::Sender<()>)>,
}

/// The right to load one; given back when it is dropped.
pub(crate) struct Load<'a> {
    loads: &'a Loads,
    tenant: TenantId,
}

impl Loads {
    /// So many at once.
    pub(crate) fn new(max: usize) -> Self {
        Self { all: Mutex::new(All { free: max, running: HashMap::new(), waiting: Vec::new() }) }
    }

    /// Waits for it.
    pub(crate) async fn begin(&self, tenant: &TenantId) -> Load<'_> {
        let (send, called) = oneshot::channel();
        {
            let mut all = self.all();
            all.waiting.push((tenant.clone(), send));
            all.call();
        }
        called.await.expect("invariant: who waits is called before it is forgotten");
        Load { loads: self, tenant: tenant.clone() }
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl All {
    fn call(&mut self) {
        while self.free > 0 {
            let running = |tenant: &TenantId| self.running.get(tenant).copied().unwrap_or(0);
            let next = (0..self.waiting.len()).min_by_key(|at| running(&self.waiting[*at].0));
            let Some((tenant, called)) = next.map(|at| self.waiting.remove(at)) else { return };
            // Who waits no more is passed over.
            if called.send(()).is_ok() {
                self.free -= 1;
                *self.running.entry(tenant).or_default() += 1;
            }
        }
    }
}

impl Drop for Load<'_> {
    fn drop(&mut self) {
        let mut all = self.loads.all();
        all.free += 1;
        if let Some(running) = all.running.get_mut(&self.tenant) {
            *running -= 1;
        }
        all.running.retain(|_, running| *running > 0);
        all.call();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;

    use super::*;

    #[tokio::test]
    async fn a_tenant_with_many_waits_for_one_with_few() {
        let loads = Loads::new(2);
        let tenant = |name: &str| TenantId::new(name).expect("a name");
        let (many, few) = (tenant("many"), tenant("few"));
        let (first, second) = (loads.begin(&many).await, loads.begin(&many).await);
        let (mut third, mut other) = (Box::pin(loads.begin(&many)), Box::pin(loads.begin(&few)));
        assert!(poll!(&mut third).is_pending() && poll!(&mut other).is_pending());
        drop(first);
        assert!(poll!(&mut third).is_pending(), "the other tenant has none");
        let other = other.await;
        drop(second);
        let third = third.await;
        // Whoever gave up takes nothing with it.
        let mut gone = Box::pin(loads.begin(&few));
        assert!(poll!(&mut gone).is_pending());
        drop(gone);
        drop((other, third));
        let _both = (loads.begin(&many).await, loads.begin(&many).await);
        assert_eq!(loads.all().free, 0);
    }
}
