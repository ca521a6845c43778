//! What all functions of one tenant use together: plugin instances, also those that wait for a model, and their memory. Taken with
//! the ticket, before a body is read, so that a tenant at its bound costs the others nothing.

use std::sync::{Arc, Mutex, PoisonError};

use sandmill_domain::{Code, Fault, TenantLimits};

/// One tenant's account.
#[derive(Debug)]
pub struct Account {
    limits: TenantLimits,
    used: Mutex<Used>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Used {
    instances: usize,
    memory_bytes: usize,
}

/// One instance and its memory, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    account: Arc<Account>,
    memory_bytes: usize,
}

impl Account {
    /// An account that nothing has been taken from.
    pub fn new(limits: TenantLimits) -> Arc<Self> {
        Arc::new(Self { limits, used: Mutex::default() })
    }

    /// Its bounds.
    pub fn limits(&self) -> &TenantLimits {
        &self.limits
    }

    /// Takes an instance whose memory may grow to this much.
    ///
    /// # Errors
    /// `TooManyRequests`, naming the bound.
    pub(crate) fn claim(self: &Arc<Self>, memory_bytes: usize) -> Result<Claim, Fault> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let limits = &self.limits;
        if used.instances >= limits.instances_max {
            return Err(full(&format!("has {} plugin instances at work, its limit (instances_max)", limits.instances_max)));
        }
        let bytes = used.memory_bytes.saturating_add(memory_bytes);
        if bytes > limits.guest_memory_bytes_max {
            let max = limits.guest_memory_bytes_max;
            return Err(full(&format!(
                "would have {bytes} bytes of plugin memory in use, beyond its limit of {max} (guest_memory_bytes_max)"
            )));
        }
        *used = Used { instances: used.instances + 1, memory_bytes: bytes };
        Ok(Claim { account: Arc::clone(self), memory_bytes })
    }
}

fn full(what: &str) -> Fault {
    Fault::new(Code::TooManyRequests, format!("the tenant {what}"))
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut used = self.account.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.instances -= 1;
        used.memory_bytes -= self.memory_bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_bounded_and_come_back() {
        let account = Account::new(TenantLimits { instances_max: 2, guest_memory_bytes_max: 100 });
        let one = account.claim(60).unwrap();
        let fault = account.claim(50).unwrap_err();
        assert_eq!(fault.code, Code::TooManyRequests);
        assert!(fault.message.contains("guest_memory_bytes_max"), "{fault}");
        let two = account.claim(40).unwrap();
        assert!(account.claim(0).unwrap_err().message.contains("instances_max"));
        drop((one, two));
        assert_eq!(*account.used.lock().unwrap(), Used::default());
    }
}
