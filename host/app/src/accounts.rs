//! What each tenant may use on this host: the host's own bounds, or those that the tenant was given.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};

use sandmill_domain::control::Quotas;
use sandmill_domain::{TenantId, TenantLimits};
use sandmill_pipeline::{Account, Turns};

/// The accounts of all tenants.
pub(crate) struct Accounts {
    defaults: TenantLimits,
    turns: Arc<Turns>,
    known: Mutex<HashMap<TenantId, Arc<Account>>>,
}

impl Accounts {
    /// Tenants whose calls are carried by so many threads.
    pub(crate) fn new(defaults: TenantLimits, threads: usize) -> Self {
        Self { defaults, turns: Turns::new(threads), known: Mutex::default() }
    }

    /// A tenant's, with the host's own bounds until others are set.
    pub(crate) fn of(&self, tenant: &TenantId) -> Arc<Account> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry(tenant.clone()).or_insert_with(|| Account::sharing(self.defaults, NonZeroU32::MIN, &self.turns)))
    }

    /// A tenant has this weight and these bounds from now on, calls under way included.
    pub(crate) fn set(&self, tenant: &TenantId, weight: u32, quotas: &Quotas) {
        let count = |quota: Option<u64>, default| quota.map_or(default, |quota| usize::try_from(quota).unwrap_or(usize::MAX));
        let rate = quotas.requests_per_second_max.map(|rate| {
            let rate = u32::try_from(rate).unwrap_or(u32::MAX);
            NonZeroU32::new(rate).unwrap_or(NonZeroU32::MIN)
        });
        let account = self.of(tenant);
        account.set_weight(NonZeroU32::new(weight).unwrap_or(NonZeroU32::MIN));
        account.set_limits(TenantLimits {
            requests_per_second_max: rate.or(self.defaults.requests_per_second_max),
            concurrency_max: count(quotas.concurrency_max, self.defaults.concurrency_max),
            instances_max: count(quotas.instances_max, self.defaults.instances_max),
            guest_memory_bytes_max: count(quotas.guest_memory_bytes_max, self.defaults.guest_memory_bytes_max),
            buffered_bytes_max: count(quotas.buffered_bytes_max, self.defaults.buffered_bytes_max),
        });
    }

    /// The others are gone; calls under way keep their accounts.
    pub(crate) fn retain(&self, is_there: impl Fn(&TenantId) -> bool) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).retain(|tenant, _| is_there(tenant));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_tenant_is_not_given_is_as_the_host_has_it() {
        let defaults = TenantLimits { concurrency_max: 7, instances_max: 5, ..TenantLimits::UNLIMITED };
        let accounts = Accounts::new(defaults, 2);
        let acme = TenantId::new("acme").expect("a name");
        let account = accounts.of(&acme);
        assert_eq!(account.limits(), defaults);
        accounts.set(&acme, 3, &Quotas { concurrency_max: Some(2), requests_per_second_max: Some(0), ..Quotas::default() });
        let given = TenantLimits { concurrency_max: 2, requests_per_second_max: Some(NonZeroU32::MIN), ..defaults };
        assert_eq!(account.limits(), given, "releases that are served already have it too");
        accounts.set(&acme, 1, &Quotas::default());
        assert_eq!(account.limits(), defaults);
    }
}
