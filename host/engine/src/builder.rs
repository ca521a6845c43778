//! From a model's file to a warm session, each time anew, on a thread of its own and within its time. Knows nothing of who asks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ort::environment::Environment;
use sandmill_domain::{Deadline, Lender, ModelInfo, Signature};

use crate::golden::Golden;
use crate::hands::Hands;
use crate::inspect::Seen;
use crate::load::{LoadError, LoadTimes, Loader, ModelOptions, ModelSource};
use crate::pool::Pool;
use crate::providers::{Placement, Providers};
use crate::raw::RawSession;
use crate::session::{Live, OnnxSession, Session};
use crate::trial::Trial;
use crate::warm_up::{Warm, WarmUp};
use crate::watchdog::Watchdog;

/// Beyond what loading and warming up may take: for a run to end that was told to.
const GRACE: Duration = Duration::from_secs(2);

/// Puts something between the runtime's sessions and whoever runs them.
pub(crate) type Wrap = dyn Fn(Box<dyn Session>) -> Box<dyn Session> + Send + Sync;

/// What all sessions are made with.
#[derive(Clone)]
pub(crate) struct Builder {
    pub(crate) environment: Environment,
    pub(crate) providers: Arc<Providers>,
    pub(crate) watchdog: Arc<Watchdog>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) wrap: Option<Arc<Wrap>>,
    /// Who makes sessions that somebody waits for, and who makes others.
    pub(crate) urgent: Arc<Hands>,
    pub(crate) calm: Arc<Hands>,
}

/// The first session of a model, and what is known of the model by it.
pub(crate) struct First {
    pub(crate) live: Arc<Live>,
    pub(crate) info: ModelInfo,
    pub(crate) seen: Seen,
    pub(crate) golden: Golden,
    pub(crate) times: LoadTimes,
    pub(crate) placement: Placement,
}

/// What a further session must be like.
#[derive(Clone)]
pub(crate) struct Known {
    pub(crate) info: Arc<ModelInfo>,
    pub(crate) golden: Arc<Golden>,
    pub(crate) warm: Option<Warm>,
}

/// A further session.
pub(crate) struct Again {
    pub(crate) live: Arc<Live>,
    pub(crate) load: Duration,
    pub(crate) warm_up: Duration,
}

impl Builder {
    pub(crate) fn first(&self, source: &ModelSource, options: &ModelOptions) -> Result<First, LoadError> {
        let (this, source, given) = (self.clone(), source.clone(), options.clone());
        let made = self.urgent.within(time(options), move || this.make_first(&source, &given))?;
        made.unwrap_or_else(|| Err(LoadError::TimedOut(time(options))))
    }

    /// A further session; not `urgent` if nobody waits for it: then whoever carries requests goes first.
    pub(crate) fn again(
        &self,
        source: &ModelSource,
        options: &ModelOptions,
        known: Known,
        urgent: bool,
    ) -> Result<Again, LoadError> {
        let (this, source, given) = (self.clone(), source.clone(), options.clone());
        // Threads that the runtime starts for a session would stay as calm as they begin.
        let hands = if urgent || options.intra_threads > 1 { &self.urgent } else { &self.calm };
        let made = hands.within(time(options), move || this.make_again(&source, &given, &known, urgent))?;
        made.unwrap_or_else(|| Err(LoadError::TimedOut(time(options))))
    }

    fn make_first(&self, source: &ModelSource, options: &ModelOptions) -> Result<First, LoadError> {
        let loaded = self.loader().load(&source.name, &read(source)?, options, None)?;
        let session = self.session(RawSession::new(loaded.session), options)?;
        let begun = Instant::now();
        let (golden, run) = self
            .warm_up(&*session, &loaded.info.signature, options, true)
            .first()
            .map_err(|fault| LoadError::WarmUp(Box::new(fault)))?;
        let times = LoadTimes { load: loaded.took, warm_up: begun.elapsed(), run };
        let (info, seen, placement) = (loaded.info, loaded.seen, loaded.placement);
        Ok(First { live: Live::new(session), info, seen, golden, times, placement })
    }

    fn make_again(&self, source: &ModelSource, options: &ModelOptions, known: &Known, urgent: bool) -> Result<Again, LoadError> {
        let loaded = self.loader().load(&source.name, &read(source)?, options, Some(&known.info.signature))?;
        let session = self.session(RawSession::new(loaded.session), options)?;
        let begun = Instant::now();
        let warmed = self.warm_up(&*session, &known.info.signature, options, urgent).again(&known.golden, known.warm.as_ref());
        warmed.map_err(|fault| LoadError::WarmUp(Box::new(fault)))?;
        Ok(Again { live: Live::new(session), load: loaded.took, warm_up: begun.elapsed() })
    }

    /// Warms up the first session once more, when it is known what for. Blocks, within the time of a warm-up.
    pub(crate) fn warm(&self, live: &Arc<Live>, options: &ModelOptions, known: Known) {
        let (this, live, given) = (self.clone(), Arc::clone(live), options.clone());
        let warmed = self.urgent.within(options.warm_up_timeout + GRACE, move || {
            this.warm_up(&*live.session, &known.info.signature, &given, true).again(&known.golden, known.warm.as_ref())
        });
        if let Ok(Some(Err(fault))) = warmed {
            tracing::warn!(fault = %fault.report(), "a session is not warm for all batches");
        }
    }

    fn loader(&self) -> Loader<'_> {
        Loader { environment: &self.environment, watchdog: &self.watchdog, providers: &self.providers }
    }

    fn session(&self, raw: ort::Result<RawSession>, options: &ModelOptions) -> Result<Box<dyn Session>, LoadError> {
        let raw = raw.map_err(|error| LoadError::Model(error.to_string()))?;
        let session = OnnxSession { raw, pool: Arc::clone(&self.pool), output_bytes_max: options.output_bytes_max };
        let session: Box<dyn Session> = Box::new(session);
        Ok(match &self.wrap {
            Some(wrap) => wrap(session),
            None => session,
        })
    }

    fn warm_up<'a>(
        &'a self,
        session: &'a dyn Session,
        signature: &'a Signature,
        options: &ModelOptions,
        urgent: bool,
    ) -> WarmUp<'a> {
        let lender: &dyn Lender = &*self.pool;
        let deadline = Deadline::after(Instant::now(), options.warm_up_timeout);
        let trial = Trial { deadline, ..self.trial(session, options) };
        WarmUp { trial, signature, lender, runs: options.warm_up_runs, urgent }
    }

    /// Without a deadline of its own yet.
    pub(crate) fn trial<'a>(&'a self, session: &'a dyn Session, options: &ModelOptions) -> Trial<'a> {
        let deadline = Deadline::after(Instant::now(), options.profile_time);
        Trial { session, watchdog: &self.watchdog, deadline, alone: options.intra_threads == 1, shrink: false }
    }
}

/// How long it may take to make one.
fn time(options: &ModelOptions) -> Duration {
    options.load_timeout + options.warm_up_timeout + GRACE
}

fn read(source: &ModelSource) -> Result<Bytes, LoadError> {
    (source.read)().map_err(LoadError::Read)
}
