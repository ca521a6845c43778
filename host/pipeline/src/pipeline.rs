//! The table of what is served, as one immutable snapshot that is swapped whole; the edge's view of it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use http::{HeaderMap, Method};
use sandmill_domain::ports::{Description, Form, Service, Target, Ticket};
use sandmill_domain::{Code, Fault, FunctionName, ModelState, TenantId};

use crate::admission::Admission;
use crate::release::Release;

type Table = HashMap<TenantId, HashMap<FunctionName, Arc<Release>>>;

/// Everything that is served.
#[derive(Default)]
pub struct Pipeline {
    table: ArcSwap<Table>,
    ready: AtomicBool,
    /// What else may be wrong with the host.
    host: OnceLock<Box<Ailing>>,
}

/// Asks what is wrong, if anything.
type Ailing = dyn Fn() -> Option<String> + Send + Sync;

impl Pipeline {
    /// Serves these releases and no others from now on; requests under way keep the release that they began with.
    pub fn publish(&self, releases: Vec<Arc<Release>>) {
        let mut table = Table::new();
        for release in releases {
            let functions = table.entry(release.tenant().clone()).or_default();
            functions.insert(release.function().clone(), release);
        }
        self.table.store(Arc::new(table));
    }

    /// Ready: every function is warm. Not ready: starting or draining.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Release);
    }

    /// Not ready either while this says that something is wrong; the first who asks for it is asked.
    pub fn watch_host(&self, ailing: impl Fn() -> Option<String> + Send + Sync + 'static) {
        drop(self.host.set(Box::new(ailing)));
    }

    /// One function, in its current release.
    fn current(&self, tenant: &TenantId, function: &FunctionName) -> Result<Arc<Release>, Fault> {
        let form = Form::Function;
        self.resolve(&Target { tenant: tenant.clone(), function: function.clone(), release: None, form })
    }

    fn resolve(&self, target: &Target) -> Result<Arc<Release>, Fault> {
        let table = self.table.load();
        let release = table.get(&target.tenant).and_then(|functions| functions.get(&target.function));
        let Some(release) = release else {
            return Err(self.missing(target));
        };
        match target.release {
            Some(number) if number != release.parts.number => {
                let served = release.parts.number;
                let message = format!("function `{}` has no release {number}; it serves {served}", target.function);
                Err(Fault::new(Code::NotFound, message))
            }
            _ => Ok(Arc::clone(release)),
        }
    }

    /// While functions are still being loaded, one that is not there may come.
    fn missing(&self, target: &Target) -> Fault {
        if self.table.load().is_empty() {
            Fault::new(Code::NotReady, "the functions are still being loaded")
        } else {
            Fault::new(Code::NotFound, format!("no function `{}`", target.function))
        }
    }
}

impl Service for Pipeline {
    fn unready(&self) -> Option<String> {
        if !self.ready.load(Ordering::Acquire) {
            return Some("its functions are being loaded, or it stops".to_owned());
        }
        let host = self.host.get().and_then(|ailing| ailing());
        host.or_else(|| {
            let table = self.table.load();
            let mut releases = table.values().flat_map(HashMap::values);
            let missed = releases.find(|release| release.parts.models.iter().any(|model| model.is_missed()))?;
            Some(format!("a model of function `{}` is not warm at the moment", missed.function()))
        })
    }

    fn admit(&self, target: &Target, method: &Method, headers: &HeaderMap) -> Result<Box<dyn Ticket>, Fault> {
        let release = self.resolve(target)?;
        Ok(Box::new(Admission::grant(&release, target.form, method, headers)?))
    }

    fn describe(&self, target: &Target) -> Result<Description, Fault> {
        let release = self.resolve(target)?;
        let Some(model) = &release.parts.model else {
            return Err(Fault::new(Code::NotFound, format!("function `{}` has no model", target.function)));
        };
        let number = release.parts.number;
        let ready = self.ready.load(Ordering::Acquire) && model.ailing().is_none();
        let model = Arc::clone(model.info());
        Ok(Description { release: number, releases: vec![number], model, ready })
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
