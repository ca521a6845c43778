//! Who asks: the holder of a key, and what the key allows.

use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Code, Fault, TenantId};

/// What a key allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Calling functions.
    Invoke,
    /// Uploading, releasing, rolling back, deleting; and seeing all of that.
    Deploy,
    /// Everything, keys included.
    Admin,
}

impl Scope {
    /// In texts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invoke => "invoke",
            Self::Deploy => "deploy",
            Self::Admin => "admin",
        }
    }
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The key's id; a word for everybody where there are no keys.
    pub key: Arc<str>,
    /// Whose key it is; none for an operator's, which is one over all tenants.
    pub tenant: Option<TenantId>,
    /// What it allows.
    pub scopes: Vec<Scope>,
    /// Where the request came from, if that is known.
    pub from: Option<IpAddr>,
}

impl Caller {
    /// Whether it may do this.
    ///
    /// # Errors
    /// `Forbidden`: the same for what is there and what is not.
    pub fn check(&self, scope: Scope) -> Result<(), Fault> {
        if self.scopes.contains(&scope) || self.scopes.contains(&Scope::Admin) {
            return Ok(());
        }
        Err(Fault::new(Code::Forbidden, format!("the key lacks the scope `{}`", scope.as_str())))
    }

    /// Whose things it asks about: its own tenant's, or, an operator's key, those of the one that it names.
    ///
    /// # Errors
    /// `NotFound` for another tenant's, whether there is one of that name or not; `InvalidInput` where an operator names none.
    pub fn tenant(&self, named: Option<&TenantId>) -> Result<TenantId, Fault> {
        match (&self.tenant, named) {
            (Some(own), None) => Ok(own.clone()),
            (Some(own), Some(named)) if own == named => Ok(own.clone()),
            (Some(_), Some(_)) => Err(Fault::new(Code::NotFound, "nothing is served at this path")),
            (None, Some(named)) => Ok(named.clone()),
            (None, None) => {
                let message = "an operator's key belongs to no tenant: name one in the path, as in /tenants/{tenant}/…";
                Err(Fault::new(Code::InvalidInput, message))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(tenant: Option<&str>, scopes: &[Scope]) -> Caller {
        let tenant = tenant.map(|name| TenantId::new(name).expect("a name"));
        Caller { key: "k".into(), tenant, scopes: scopes.to_vec(), from: None }
    }

    #[test]
    fn admin_is_everything_and_the_others_are_themselves() {
        let all = [Scope::Invoke, Scope::Deploy, Scope::Admin];
        for scope in all {
            assert!(caller(None, &[Scope::Admin]).check(scope).is_ok());
            for other in [Scope::Invoke, Scope::Deploy] {
                assert_eq!(caller(None, &[other]).check(scope).is_ok(), other == scope, "{other:?} {scope:?}");
            }
            assert_eq!(caller(None, &[]).check(scope).expect_err("a refusal").code, Code::Forbidden);
        }
    }

    #[test]
    fn a_tenant_reaches_its_own_and_an_operator_what_it_names() {
        let [acme, other] = ["acme", "other"].map(|name| TenantId::new(name).expect("a name"));
        let code = |caller: &Caller, named: Option<&TenantId>| caller.tenant(named).map_err(|fault| fault.code);
        let tenant = caller(Some("acme"), &[Scope::Admin]);
        assert_eq!(code(&tenant, None), Ok(acme.clone()));
        assert_eq!(code(&tenant, Some(&acme)), Ok(acme.clone()));
        assert_eq!(code(&tenant, Some(&other)), Err(Code::NotFound));
        let operator = caller(None, &[Scope::Admin]);
        assert_eq!(code(&operator, Some(&other)), Ok(other));
        assert_eq!(code(&operator, None), Err(Code::InvalidInput));
    }
}
