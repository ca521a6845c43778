//! Where a model is tried before this process gives it to its own runtime: in a child, once for each model and machine. What came of
//! it is noted.

use std::path::{Path, PathBuf};

use sandmill_domain::Provider;
use sandmill_worker::Quarantine;

use crate::EngineOptions;
use crate::life::Life;
use crate::load::{LoadError, ModelOptions, ModelSource};
use crate::notebook::Notebook;
use crate::plan::Called;
use crate::profile::Measured;
use crate::quarantine::{Answer, Task, send};

/// The children and the notes, each if there is any.
pub(crate) struct TrialGround {
    library: PathBuf,
    quarantine: Option<Quarantine>,
    notebook: Option<Notebook>,
}

impl TrialGround {
    /// A notebook that cannot be opened costs time at each start, and not the start.
    pub(crate) fn open(library: &Path, runtime: &str, options: &EngineOptions) -> Self {
        let quarantine = options.quarantine.clone();
        let quarantine = quarantine.map(|options| Quarantine::new(options.program, options.limits, options.children_max));
        let open = |folder: &PathBuf| {
            let opened = Notebook::open(folder, runtime);
            let tell = |error: &std::io::Error| {
                let folder = folder.display();
                tracing::warn!(%folder, %error, "models are tried and measured anew at each start, as nothing can be kept there");
            };
            opened.inspect_err(tell).ok()
        };
        let notebook = options.notes.as_ref().and_then(open);
        Self { library: library.to_owned(), quarantine, notebook }
    }

    /// Has the model tried, unless it was tried before.
    ///
    /// # Errors
    /// If it is refused, or its trial was ended.
    pub(crate) fn try_first(&self, source: &ModelSource, options: &ModelOptions) -> Result<(), LoadError> {
        let Some(quarantine) = &self.quarantine else { return Ok(()) };
        let options = &on_cpu(options);
        let bytes = (source.read)().map_err(LoadError::Read)?;
        let noted = self.notebook.as_ref().map(|notebook| (notebook, notebook.key(&bytes, &(Task::Try, options))));
        if noted.as_ref().is_some_and(|(notebook, key)| notebook.read::<()>(key).is_some()) {
            return Ok(());
        }
        match send(quarantine, &self.library, (&source.name, &bytes), options, Task::Try)? {
            Answer::Good | Answer::Measured(_) => (),
            Answer::Refused(why) => return Err(LoadError::Quarantined(why)),
        }
        if let Some((notebook, key)) = noted {
            notebook.write(&key, &());
        }
        Ok(())
    }

    /// What runs of a model take, measured by a child or, if it was before, read; none if that is not done here.
    pub(crate) fn measure(&self, life: &Life, options: &ModelOptions, called: &[Called]) -> Option<Measured> {
        let (Some(quarantine), source) = (&self.quarantine, life.source()) else { return None };
        if options.providers != on_cpu(options).providers {
            return None;
        }
        let bytes = (source.read)().ok()?;
        let task = Task::Measure(called.to_vec());
        let noted = self.notebook.as_ref().map(|notebook| (notebook, notebook.key(&bytes, &(&task, options))));
        if let Some(measured) = noted.as_ref().and_then(|(notebook, key)| notebook.read(key)) {
            return Some(measured);
        }
        let measured = match send(quarantine, &self.library, (&source.name, &bytes), options, task) {
            Ok(Answer::Measured(measured)) => *measured,
            Ok(Answer::Good | Answer::Refused(_)) => return None,
            Err(error) => {
                tracing::warn!(model = source.name, %error, "it was not measured");
                return Some(Measured::nothing());
            }
        };
        if let Some((notebook, key)) = noted {
            notebook.write(&key, &measured);
        }
        Some(measured)
    }
}

/// As a child can run it: a device does not bear its bounds, as drivers map more than a machine has.
fn on_cpu(options: &ModelOptions) -> ModelOptions {
    ModelOptions { providers: vec![Provider::cpu()], ..options.clone() }
}
