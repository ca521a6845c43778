//! What a component is, for a catalog: found out in quarantine as when it is loaded, but without a function's settings, files and
//! models, and of nobody's cache. Nothing of it stays.

use sandmill_domain::{Grants, InstancePolicy, Origin, PluginLimits};

use crate::contract;
use crate::job::{Job, Snapshot};
use crate::load::{LoadError, answer, check_kind, check_resources};
use crate::machine::Sandbox;
use crate::options::PluginOptions;
use crate::precompiled;

/// What a component was seen to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// What it does: `preprocess` or `postprocess` or both, or `handler`.
    pub shape: Vec<&'static str>,
    /// The grants that its imports are for, by their names in `function.toml`.
    pub grants: Vec<&'static str>,
    /// The interfaces that it imports, printable; the first of very many.
    pub imports: Vec<String>,
    /// Likewise, those that it exports.
    pub exports: Vec<String>,
    /// What came of its `init`.
    pub started: Started,
}

/// What came of a component's `init`, without settings, assets and models.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Started {
    /// As it will be in a function.
    Well(Snapshot),
    /// It refused or failed, in these words: it may want what it was not given.
    Failed(String),
}

impl Sandbox {
    /// Looks at a component, compiles it in a process of its own, and runs its `init` there. Blocks as [`Sandbox::load`] does when
    /// it compiles.
    ///
    /// # Errors
    /// What no function could make good: all that [`Sandbox::load`] refuses, but for what `init` does and what must be granted.
    pub fn inspect(&self, bytes: &[u8], name: &str) -> Result<Inspection, LoadError> {
        check_kind(bytes, self.options.compiling.component_bytes_max)?;
        let options = self.most(name);
        let job = Job { http: true, inspects: true, ..self.plan(bytes, &options) };
        let job = postcard::to_stdvec(&job).map_err(|error| answer(error.into()))?;
        let (compiled, inspected) = self.ask(&job, &options)?;
        let inspected = inspected.ok_or_else(|| answer("it was compiled, and not looked at".into()))?;
        let code = precompiled::load(&self.engine, &compiled.code).map_err(|error| answer(error.into()))?;
        let component = code.component();
        check_resources(component, &options.limits)?;
        let shape = contract::shape(&self.engine, component)?;
        self.link(component, &all_that_is_linked())?;
        let sides = [
            ("preprocess", shape.preprocess.is_some()),
            ("postprocess", shape.postprocess.is_some()),
            ("handler", shape.handle.is_some()),
        ];
        Ok(Inspection {
            shape: sides.into_iter().filter_map(|(side, is_there)| is_there.then_some(side)).collect(),
            grants: contract::grants_for(&inspected.imports),
            imports: inspected.imports,
            exports: inspected.exports,
            started: inspected.init_failure.map_or(Started::Well(compiled.made.snapshot), Started::Failed),
        })
    }

    /// The room that any function could give it, and the time for `init` that functions have.
    fn most(&self, name: &str) -> PluginOptions {
        let host = self.options.limits;
        let init_time = PluginLimits::default().within(&host).init_time;
        PluginOptions {
            name: name.to_owned(),
            owner: String::new(),
            journal: None,
            config: Vec::new(),
            assets: Vec::new(),
            models: Vec::new(),
            share: None,
            limits: PluginLimits { init_time, ..host },
            grants: Grants::default(),
            instances: InstancePolicy::default(),
        }
    }
}

/// So that every import that could be granted is there.
fn all_that_is_linked() -> Grants {
    let anywhere = Origin { host: "*".to_owned(), port: None };
    Grants { wall_clock: true, monotonic_clock: true, randomness: true, http: vec![anywhere], ..Grants::default() }
}
