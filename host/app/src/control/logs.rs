//! What functions' plugins have said, for their tenants: kept in memory, and followed by a few at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sandmill_domain::control::Answer;
use sandmill_domain::{Code, Fault, Journal, TenantId};
use tokio::time::{Instant, sleep};

use super::follow::Name;

/// Of each tenant, functions that are not there (any more) whose lines are kept, as those of a deployment that failed.
const MISSING_MAX: usize = 16;
/// Of each tenant, those who wait for lines: each keeps a connection.
const LISTENERS_MAX: usize = 4;
/// Lines that one answer tells at most; how long one waits for the next, and how often it looks.
const LINES_MAX: usize = 1000;
const WAIT_MAX: Duration = Duration::from_secs(20);
const STEP: Duration = Duration::from_millis(100);

/// All functions' lines.
#[derive(Default)]
pub(crate) struct Logs {
    journals: Mutex<HashMap<Name, Arc<Journal>>>,
    listeners: Mutex<HashMap<TenantId, usize>>,
}

/// Somebody who waits.
struct Listener<'a> {
    logs: &'a Logs,
    tenant: &'a TenantId,
}

impl Logs {
    /// Where a function's lines go. `is_there` says whether there is a function of that name.
    pub(crate) fn of(&self, name: &Name, is_there: impl Fn(&Name) -> bool) -> Arc<Journal> {
        let mut journals = lock(&self.journals);
        if !journals.contains_key(name) && !is_there(name) {
            // What is held is written to still.
            let is_idle = |of: &Name, journal: &Arc<Journal>| of.0 == name.0 && Arc::strong_count(journal) == 1 && !is_there(of);
            if journals.iter().filter(|(of, journal)| is_idle(of, journal)).count() >= MISSING_MAX {
                journals.retain(|of, journal| !is_idle(of, journal));
            }
        }
        Arc::clone(journals.entry(name.clone()).or_default())
    }

    /// What was said after a line; if nothing was, it is waited for a while.
    ///
    /// # Errors
    /// `NotFound`; `TooManyRequests` if as many of the tenant's wait as may.
    pub(crate) async fn after(&self, name: &Name, after: u64, wait: Duration) -> Result<Answer, Fault> {
        let known = lock(&self.journals).get(name).cloned();
        let journal = known.ok_or_else(|| super::missing(&name.1))?;
        let lines = journal.after(after, LINES_MAX);
        if !lines.is_empty() || wait.is_zero() {
            return Ok(Answer::Logs { lines });
        }
        let _listener = self.listen(&name.0)?;
        let until = Instant::now() + wait.min(WAIT_MAX);
        loop {
            let lines = journal.after(after, LINES_MAX);
            if !lines.is_empty() || Instant::now() >= until {
                return Ok(Answer::Logs { lines });
            }
            sleep(STEP).await;
        }
    }

    /// A function is gone, and what it said with it.
    pub(crate) fn forget(&self, name: &Name) {
        lock(&self.journals).remove(name);
    }

    fn listen<'a>(&'a self, tenant: &'a TenantId) -> Result<Listener<'a>, Fault> {
        let mut listeners = lock(&self.listeners);
        let count = listeners.entry(tenant.clone()).or_default();
        if *count >= LISTENERS_MAX {
            let message = format!("{LISTENERS_MAX} requests of the tenant wait for log lines already");
            return Err(Fault::new(Code::TooManyRequests, message));
        }
        *count += 1;
        Ok(Listener { logs: self, tenant })
    }
}

impl Drop for Listener<'_> {
    fn drop(&mut self) {
        let mut listeners = lock(&self.logs.listeners);
        if let Some(count) = listeners.get_mut(self.tenant) {
            *count -= 1;
        }
        listeners.retain(|_, count| *count > 0);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use sandmill_domain::FunctionName;

    use super::*;

    fn name(tenant: &str, function: &str) -> Name {
        (TenantId::new(tenant).expect("a name"), FunctionName::new(function).expect("a name"))
    }

    #[test]
    fn of_functions_that_are_not_there_some_are_kept() {
        let logs = Logs::default();
        let other = logs.of(&name("b", "f"), |_| false);
        let held = logs.of(&name("a", "held"), |_| false);
        for at in 0..=MISSING_MAX {
            drop(logs.of(&name("a", &format!("f{at}")), |_| false));
        }
        let known = |function: &str| lock(&logs.journals).contains_key(&name("a", function));
        assert!(known("held") && !known("f0") && known(&format!("f{MISSING_MAX}")));
        drop((held, other));
        assert_eq!(lock(&logs.journals).len(), 3, "and another tenant's is not this one's matter");
        // Those that are there have no bound here.
        for at in 0..3 * MISSING_MAX {
            drop(logs.of(&name("a", &format!("g{at}")), |_| true));
        }
        assert!(lock(&logs.journals).len() > 3 * MISSING_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn some_of_a_tenants_wait_at_once() {
        let logs = Logs::default();
        let (a, b) = (name("a", "f"), name("b", "f"));
        drop((logs.of(&a, |_| true), logs.of(&b, |_| true)));
        let waits: Vec<_> = (0..LISTENERS_MAX).map(|_| logs.after(&a, 0, WAIT_MAX)).collect();
        let waits = futures_util::future::join_all(waits);
        tokio::pin!(waits);
        assert!(futures_util::poll!(&mut waits).is_pending());
        let refused = logs.after(&a, 0, WAIT_MAX).await;
        assert_eq!(refused.expect_err("one too many").code, Code::TooManyRequests);
        assert!(logs.after(&a, 0, Duration::ZERO).await.is_ok(), "who does not wait is no matter");
        assert!(logs.after(&b, 0, Duration::from_secs(1)).await.is_ok());
        assert!(waits.await.into_iter().all(|told| told.is_ok()));
        assert!(lock(&logs.listeners).is_empty());
    }
}
