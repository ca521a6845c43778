//! What is served, as one immutable table that is swapped whole: tenants, their functions, and of each the releases that can be asked
//! for. Whoever reads it never waits for whoever changes it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use sandmill_domain::{Code, Fault, FunctionName, ReleaseNumber, TenantId};

use crate::release::Release;

type Functions = HashMap<FunctionName, Arc<Served>>;

/// One function as it is served.
#[derive(Clone)]
pub struct Served {
    current: Arc<Release>,
    /// The current one, and those that can still be asked for by their numbers.
    releases: BTreeMap<ReleaseNumber, Arc<Release>>,
}

impl Served {
    /// A function that has one release.
    pub fn new(current: Arc<Release>) -> Self {
        let releases = BTreeMap::from([(current.number(), Arc::clone(&current))]);
        Self { current, releases }
    }

    /// The same, with one that does not answer unless it is asked for by its number; it must be of the same function.
    #[must_use]
    pub fn with(mut self, other: Arc<Release>) -> Self {
        if other.number() != self.current.number() {
            self.releases.insert(other.number(), other);
        }
        self
    }

    /// The release that answers.
    pub fn current(&self) -> &Arc<Release> {
        &self.current
    }

    /// All that can be asked for, the oldest first.
    pub fn releases(&self) -> impl Iterator<Item = &Arc<Release>> {
        self.releases.values()
    }

    pub(crate) fn numbers(&self) -> Vec<ReleaseNumber> {
        self.releases.keys().copied().collect()
    }

    /// # Errors
    /// `NotFound`.
    pub(crate) fn release(&self, number: Option<ReleaseNumber>) -> Result<&Arc<Release>, Fault> {
        let Some(number) = number else { return Ok(&self.current) };
        self.releases.get(&number).ok_or_else(|| {
            let names: Vec<String> = self.numbers().iter().map(ToString::to_string).collect();
            let function = self.current.function();
            let message = format!("function `{function}` has no release {number}; it serves {}", names.join(", "));
            Fault::new(Code::NotFound, message)
        })
    }
}

/// Everything that is served.
#[derive(Default)]
pub(crate) struct Table {
    tenants: ArcSwap<HashMap<TenantId, Arc<Functions>>>,
    /// Held by whoever changes it.
    changing: Mutex<()>,
}

impl Table {
    /// A function, if there is one of that name.
    pub(crate) fn get(&self, tenant: &TenantId, function: &FunctionName) -> Option<Arc<Served>> {
        self.tenants.load().get(tenant)?.get(function).cloned()
    }

    /// All functions, tenant by tenant.
    pub(crate) fn all(&self) -> Vec<Arc<Served>> {
        self.tenants.load().values().flat_map(|functions| functions.values()).cloned().collect()
    }

    /// All functions of one tenant, by their names.
    pub(crate) fn of(&self, tenant: &TenantId) -> Vec<Arc<Served>> {
        let tenants = self.tenants.load();
        let mut found: Vec<_> = tenants.get(tenant).into_iter().flat_map(|functions| functions.values()).cloned().collect();
        found.sort_by(|one, other| one.current.function().cmp(other.current.function()));
        found
    }

    /// Serves a function in this way from now on; gives back how it was served before.
    pub(crate) fn set(&self, served: Served) -> Option<Arc<Served>> {
        let (tenant, function) = (served.current.tenant().clone(), served.current.function().clone());
        self.change(&tenant, |functions| functions.insert(function, Arc::new(served)))
    }

    /// Serves it no more; gives back how it was served.
    pub(crate) fn remove(&self, tenant: &TenantId, function: &FunctionName) -> Option<Arc<Served>> {
        self.change(tenant, |functions| functions.remove(function))
    }

    /// Copies one tenant's functions, and of the others only where they are.
    fn change<T>(&self, tenant: &TenantId, change: impl FnOnce(&mut Functions) -> T) -> T {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tenants = HashMap::clone(&self.tenants.load());
        let mut functions = tenants.get(tenant).map(|functions| Functions::clone(functions)).unwrap_or_default();
        let changed = change(&mut functions);
        if functions.is_empty() {
            tenants.remove(tenant);
        } else {
            tenants.insert(tenant.clone(), Arc::new(functions));
        }
        self.tenants.store(Arc::new(tenants));
        changed
    }
}
