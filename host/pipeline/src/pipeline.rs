//! Everything that is served, as the edge sees it, and whether it is ready.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use http::{HeaderMap, Method};
use sandmill_domain::ports::{BoxFuture, Description, RepositoryEntry, Service, Target, Ticket};
use sandmill_domain::{Code, Fault, FunctionName, ModelState, TenantId};

use crate::admission::Admission;
use crate::release::Release;
use crate::repository;
use crate::table::{Served, Table};

/// Everything that is served.
#[derive(Default)]
pub struct Pipeline {
    table: Table,
    ready: AtomicBool,
    /// What else may be wrong with the host.
    host: OnceLock<Box<Ailing>>,
    remark: OnceLock<Box<Ailing>>,
}

/// Asks what is wrong, or what there is to know, if anything.
type Ailing = dyn Fn() -> Option<String> + Send + Sync;

impl Pipeline {
    /// Serves a function in this way from now on, in place of how it was served before, which is given back. Requests under way
    /// keep the release that they began with.
    pub fn publish(&self, served: Served) -> Option<Arc<Served>> {
        self.table.set(served)
    }

    /// Serves a function no more, which is given back. Requests under way are finished.
    pub fn withdraw(&self, tenant: &TenantId, function: &FunctionName) -> Option<Arc<Served>> {
        self.table.remove(tenant, function)
    }

    /// How a function is served.
    pub fn served(&self, tenant: &TenantId, function: &FunctionName) -> Option<Arc<Served>> {
        self.table.get(tenant, function)
    }

    /// Ready: each function was loaded, could not be, or has had its time for it. Not ready: starting or draining.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Release);
    }

    /// Ready all the same, with this to be known; the first who asks for it is asked.
    pub fn watch_remarks(&self, remark: impl Fn() -> Option<String> + Send + Sync + 'static) {
        drop(self.remark.set(Box::new(remark)));
    }

    /// Not ready either while this says that something is wrong; the first who asks for it is asked.
    pub fn watch_host(&self, ailing: impl Fn() -> Option<String> + Send + Sync + 'static) {
        drop(self.host.set(Box::new(ailing)));
    }

    /// One function, in its current release.
    fn current(&self, tenant: &TenantId, function: &FunctionName) -> Result<Arc<Release>, Fault> {
        Ok(Arc::clone(self.find(tenant, function)?.current()))
    }

    fn resolve(&self, target: &Target) -> Result<Arc<Release>, Fault> {
        Ok(Arc::clone(self.find(&target.tenant, &target.function)?.release(target.release)?))
    }

    /// While functions are still being loaded, one that is not there may come.
    fn find(&self, tenant: &TenantId, function: &FunctionName) -> Result<Arc<Served>, Fault> {
        self.table.get(tenant, function).ok_or_else(|| {
            if self.ready.load(Ordering::Acquire) {
                Fault::new(Code::NotFound, format!("no function `{function}`"))
            } else {
                Fault::new(Code::NotReady, "the functions are still being loaded, or the host stops")
            }
        })
    }
}

impl Service for Pipeline {
    fn unready(&self) -> Option<String> {
        if !self.ready.load(Ordering::Acquire) {
            return Some("its functions are being loaded, or it stops".to_owned());
        }
        let host = self.host.get().and_then(|ailing| ailing());
        host.or_else(|| {
            let all = self.table.all();
            let missed = all.iter().filter(|served| served.current().parts.models.iter().any(|model| model.is_missed()));
            // Which they are is for those who may see them.
            let count = missed.count();
            (count > 0).then(|| format!("models of {count} functions are not warm at the moment"))
        })
    }

    fn remarks(&self) -> Vec<String> {
        self.remark.get().and_then(|remark| remark()).into_iter().collect()
    }

    fn admit(&self, target: &Target, method: &Method, headers: &HeaderMap) -> Result<Box<dyn Ticket>, Fault> {
        let release = self.resolve(target)?;
        Ok(Box::new(Admission::grant(&release, target.form, method, headers)?))
    }

    fn describe(&self, target: &Target) -> Result<Description, Fault> {
        let served = self.find(&target.tenant, &target.function)?;
        let release = served.release(target.release)?;
        let Some(model) = &release.parts.model else {
            return Err(repository::no_model(release));
        };
        let number = release.parts.number;
        let ready = self.ready.load(Ordering::Acquire) && model.ailing().is_none();
        let model = Arc::clone(model.info());
        Ok(Description { release: number, releases: served.numbers(), model, ready })
    }

    fn repository(&self, tenant: &TenantId) -> Vec<RepositoryEntry> {
        repository::index(&self.table.of(tenant))
    }

    fn load(&self, tenant: &TenantId, function: &FunctionName) -> BoxFuture<'_, Result<(), Fault>> {
        let release = self.current(tenant, function);
        Box::pin(async { repository::load(&*release?).await })
    }

    fn unload(&self, tenant: &TenantId, function: &FunctionName) -> BoxFuture<'_, Result<(), Fault>> {
        let release = self.current(tenant, function);
        Box::pin(async { repository::unload(&*release?).await })
    }

    fn models(&self, tenant: &TenantId, function: &FunctionName) -> Result<Vec<(String, ModelState)>, Fault> {
        let release = self.current(tenant, function)?;
        Ok(release.parts.models.iter().map(|model| (model.info().name.clone(), model.state())).collect())
    }

    fn recycle(&self, tenant: &TenantId, function: &FunctionName, model: &str) -> Result<(), Fault> {
        let release = self.current(tenant, function)?;
        let found = release.parts.models.iter().find(|found| found.info().name == model);
        let names = || release.parts.models.iter().map(|model| format!("`{}`", model.info().name)).collect::<Vec<_>>().join(", ");
        let missing = || Fault::new(Code::NotFound, format!("function `{function}` has no such model: it has {}", names()));
        found.ok_or_else(missing)?.recycle();
        Ok(())
    }
}
