//! Who asks on a host without keys: everybody is its one tenant, and may do everything.

use sandmill_domain::ports::Keys;
use sandmill_domain::{Caller, Fault, Scope, TenantId};

/// The keys of a host that serves folders.
pub(crate) struct NoKeys;

impl Keys for NoKeys {
    fn holder(&self, _secret: Option<&str>) -> Result<Caller, Fault> {
        Ok(Caller { key: "-".into(), tenant: Some(TenantId::local()), scopes: vec![Scope::Admin], from: None })
    }

    fn exist(&self) -> bool {
        false
    }
}
