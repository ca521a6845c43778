//! How often one tenant's things may be changed on this host: each change stays in its log.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use sandmill_domain::{Advice, Bucket, Code, Fault, TenantId};

/// All tenants'.
pub(crate) struct Pace {
    per_minute: f64,
    buckets: Mutex<HashMap<TenantId, Bucket>>,
}

impl Pace {
    /// So many per minute, all of them at once if need be.
    pub(crate) fn new(per_minute: usize) -> Self {
        Self { per_minute: per_minute as f64, buckets: Mutex::default() }
    }

    /// A change of this tenant's begins.
    ///
    /// # Errors
    /// `TooManyRequests`, and when to come back.
    pub(crate) fn begin(&self, tenant: &TenantId) -> Result<(), Fault> {
        let now = Instant::now();
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.entry(tenant.clone()).or_insert_with(|| Bucket::full(now));
        bucket.take(self.per_minute / 60.0, self.per_minute, now).map_err(|wait| {
            let message = format!("the tenant changes more than {} things a minute (changes_per_minute_max)", self.per_minute);
            Fault::new(Code::TooManyRequests, message).advising(Advice::RetryAfter(wait))
        })
    }

    /// Those alone are remembered that this says.
    pub(crate) fn retain(&self, is_there: impl Fn(&TenantId) -> bool) {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner).retain(|tenant, _| is_there(tenant));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minutes_worth_may_come_at_once_and_is_one_tenants_own() {
        let pace = Pace::new(5);
        let tenant = |name: &str| TenantId::new(name).expect("a name");
        assert!((0..5).all(|_| pace.begin(&tenant("a")).is_ok()));
        let refused = pace.begin(&tenant("a")).expect_err("one too many");
        assert_eq!(refused.code, Code::TooManyRequests);
        assert!(matches!(refused.advice, Some(Advice::RetryAfter(wait)) if wait.as_secs() <= 12), "{refused:?}");
        assert!(pace.begin(&tenant("b")).is_ok());
        pace.retain(|_| false);
        assert!(pace.begin(&tenant("a")).is_ok());
    }
}
