//! The host's own state: who its tenants are, what they may use, and the operators' keys.

use std::collections::{BTreeMap, BTreeSet};

use sandmill_domain::control::Quotas;
use sandmill_domain::{Label, TenantId};
use serde::{Deserialize, Serialize};

use super::bounds::{TENANTS_MAX, check_entry, malformed, room};
use super::refusal::Refusal;
use super::{State, keys};
use crate::store::{Entry, Key, SystemChange};

/// What the host's own log says in all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SystemState {
    tenants: BTreeMap<TenantId, Tenant>,
    removed: BTreeSet<TenantId>,
    keys: BTreeMap<Label, Key>,
}

/// One tenant, as operators see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    /// Its share where tenants compete.
    pub weight: u32,
    /// What it may use.
    pub quotas: Quotas,
}

impl SystemState {
    /// Tenants that were removed.
    pub(crate) fn removed(&self) -> impl Iterator<Item = &TenantId> {
        self.removed.iter()
    }

    /// Those that are served.
    pub fn tenants(&self) -> &BTreeMap<TenantId, Tenant> {
        &self.tenants
    }

    /// The operators'.
    pub fn keys(&self) -> &BTreeMap<Label, Key> {
        &self.keys
    }

    fn add(&mut self, name: &TenantId, tenant: Tenant) -> Result<(), Refusal> {
        if self.removed.contains(name) {
            return Err(Refusal::Removed(name.to_string()));
        }
        if self.tenants.contains_key(name) {
            return Err(Refusal::Taken(format!("tenant `{name}`")));
        }
        room("tenants", self.tenants.len() + self.removed.len(), TENANTS_MAX)?;
        self.tenants.insert(name.clone(), tenant);
        Ok(())
    }

    fn change(&mut self, name: &TenantId, tenant: Tenant) -> Result<(), Refusal> {
        let known = self.tenants.get_mut(name).ok_or_else(|| unknown(name))?;
        *known = tenant;
        Ok(())
    }

    fn remove(&mut self, name: &TenantId) -> Result<(), Refusal> {
        self.tenants.remove(name).ok_or_else(|| unknown(name))?;
        self.removed.insert(name.clone());
        Ok(())
    }
}

fn unknown(name: &TenantId) -> Refusal {
    Refusal::Unknown(format!("tenant `{name}`"))
}

fn tenant(weight: u32, quotas: Quotas) -> Result<Tenant, Refusal> {
    if weight == 0 { Err(malformed("a tenant's weight", "it is at least 1")) } else { Ok(Tenant { weight, quotas }) }
}

impl State for SystemState {
    type Change = SystemChange;

    fn apply(&mut self, entry: &Entry<SystemChange>) -> Result<(), Refusal> {
        check_entry(entry)?;
        match &entry.change {
            SystemChange::TenantAdded { tenant: name, weight, quotas } => self.add(name, tenant(*weight, *quotas)?),
            SystemChange::TenantChanged { tenant: name, weight, quotas } => self.change(name, tenant(*weight, *quotas)?),
            SystemChange::TenantRemoved { tenant } => self.remove(tenant),
            SystemChange::KeyAdded(key) => keys::add(&mut self.keys, key),
            SystemChange::KeyRevoked { id } => keys::revoke(&mut self.keys, id),
        }
    }
}
