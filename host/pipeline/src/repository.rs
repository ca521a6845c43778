//! A tenant's functions as a repository of models: where each stands, and its model loaded or unloaded when somebody asks for it.
//! What there is, the catalog says: nothing comes or goes here.

use std::sync::Arc;
use std::time::Duration;

use sandmill_domain::ports::{Model, RepositoryEntry};
use sandmill_domain::{Code, Deadline, Fault, ModelStage};
use tokio::time::{Instant, sleep};

use crate::clock::now;
use crate::release::Release;
use crate::table::Served;

/// How long somebody waits for a model to come, which may take as long as its first load did, and for its last call to end.
const LOAD_TIME: Duration = Duration::from_secs(300);
const UNLOAD_TIME: Duration = Duration::from_secs(30);
/// How often it is looked at.
const STEP: Duration = Duration::from_millis(5);

/// All releases that have a model of their own.
pub(crate) fn index(functions: &[Arc<Served>]) -> Vec<RepositoryEntry> {
    let releases = functions.iter().flat_map(|served| served.releases());
    let entry = |release: &Arc<Release>| {
        let state = release.parts.model.as_ref()?.state();
        let (function, release) = (release.function().clone(), release.number());
        Some(RepositoryEntry { function, release, stage: state.stage, ailing: state.ailing })
    };
    releases.filter_map(entry).collect()
}

/// Waits until it is there.
pub(crate) async fn load(release: &Release) -> Result<(), Fault> {
    let model = model(release)?;
    model.load();
    if reaches(model, LOAD_TIME, |stage| stage != ModelStage::Loading).await && model.state().stage == ModelStage::Warm {
        return Ok(());
    }
    // Why it is not, if that is known.
    model.check(Deadline::after(now(), LOAD_TIME).into())?;
    Err(Fault::new(Code::NotReady, format!("the model of function `{}` is not loaded: try again", release.function())))
}

/// Waits until it is gone.
pub(crate) async fn unload(release: &Release) -> Result<(), Fault> {
    let model = model(release)?;
    model.unload();
    if reaches(model, UNLOAD_TIME, |stage| stage == ModelStage::Unloaded).await {
        return Ok(());
    }
    // Not behind the back of whoever was told that it is there.
    model.load();
    let message = format!("the model of function `{}` is in use all the time: it stays loaded", release.function());
    Err(Fault::new(Code::Conflict, message))
}

async fn reaches(model: &dyn Model, time: Duration, is_there: impl Fn(ModelStage) -> bool) -> bool {
    let until = Instant::now() + time;
    while !is_there(model.state().stage) {
        if Instant::now() >= until {
            return false;
        }
        sleep(STEP).await;
    }
    true
}

fn model(release: &Release) -> Result<&dyn Model, Fault> {
    release.parts.model.as_deref().ok_or_else(|| no_model(release))
}

pub(crate) fn no_model(release: &Release) -> Fault {
    Fault::new(Code::NotFound, format!("function `{}` has no model", release.function()))
}
