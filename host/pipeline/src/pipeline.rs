//! The table of what is served, as one immutable snapshot that is swapped whole; the edge's view of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use http::{HeaderMap, Method};
use sandmill_domain::ports::{Description, Service, Target, Ticket};
use sandmill_domain::{Code, Fault, FunctionName, TenantId};

use crate::admission::Admission;
use crate::release::Release;

type Table = HashMap<TenantId, HashMap<FunctionName, Arc<Release>>>;

/// Everything that is served.
#[derive(Default)]
pub struct Pipeline {
    table: ArcSwap<Table>,
    ready: AtomicBool,
}

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
    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
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
        let model = Arc::clone(model.info());
        Ok(Description { release: number, releases: vec![number], model, ready: self.is_ready() })
    }
}
