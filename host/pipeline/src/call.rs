//! One call from the whole request to the whole reply: prepare → check → infer → finish; or one handler that does all of it.
//! Nothing else happens here.

use std::time::{Duration, Instant};

use sandmill_domain::ports::{Form, Guest, Inference, Model, Outcome, Plugin, PluginUsage, Prepared, Stages};
use sandmill_domain::{Blame, Code, Fault, Level, Reply, Request, RequestHead, Tensor, Wish};
use sandmill_protocol::{Wanted, decode, encode};

use crate::bill::{Bill, Billed};
use crate::clock::now;
use crate::guard::judge;
use crate::release::Release;
use crate::terms::Terms;

/// Half a millisecond's worth of JSON.
const COMPUTED_INLINE_BYTES_MAX: usize = 64 << 10;

/// What a call goes by: the release's parts, as far as this form of call uses them.
pub(crate) struct Call<'a> {
    release: &'a Release,
    bill: Bill<'a>,
    handler: Option<&'a dyn Plugin>,
    pre: Option<&'a dyn Plugin>,
    post: Option<&'a dyn Plugin>,
    terms: Terms,
}

/// What the request has become before the model.
enum Work<'a> {
    /// The plugin answered at once.
    Answered(Reply),
    /// Tensors that fit the model, how its outputs become a reply, and what the body asked for beside.
    Inputs(Vec<Tensor>, Finish<'a>, Wish),
}

/// How the outputs become a reply.
enum Finish<'a> {
    /// The instance that preprocessed also postprocesses.
    SameGuest(Billed, RequestHead),
    /// Another plugin postprocesses: its instance is made when the outputs are there.
    Plugin(&'a dyn Plugin, RequestHead),
    /// The protocol encodes them as the request wished.
    Encode(Wanted),
}

impl<'a> Call<'a> {
    pub(crate) fn new(release: &'a Release, form: Form, terms: Terms) -> Self {
        let plugins = &release.parts.plugins;
        let (handler, pre, post) = match form {
            Form::Function => (plugins.handler.as_deref(), plugins.pre.as_deref(), plugins.post.as_deref()),
            Form::OpenInference => (None, None, None),
        };
        Self { release, bill: Bill::of(release), handler, pre, post, terms }
    }

    /// Runs the request to its end. Dropping the future ends the plugin's or the model's run.
    pub(crate) async fn run(mut self, request: Request) -> Outcome {
        let mut stages = Stages::default();
        let result = match self.handler {
            // A handler is told itself of its models' failures, and what it makes of them is its own: nothing is reported.
            Some(handler) => self.handle(handler, request, &mut stages).await,
            None => self.answer(request, &mut stages).await,
        };
        self.bill.settle();
        Outcome { result: result.map_err(|fault| self.note(self.terms.blame(fault))), stages }
    }

    /// What went wrong in a plugin, its owner can read: a backtrace, for one.
    fn note(&self, fault: Fault) -> Fault {
        if let (Blame::Plugin, Some(journal)) = (fault.blame, &self.release.parts.journal) {
            journal.write(Level::Error, format!("{}: {}", fault.code.name(), fault.report()));
        }
        fault
    }

    async fn answer(&mut self, request: Request, stages: &mut Stages) -> Result<Reply, Fault> {
        let Stages { preprocess, plugin: usage, .. } = stages;
        let (inputs, finish, wish) = match timed(preprocess, self.prepare(request, usage)).await? {
            Work::Answered(reply) => return Ok(reply),
            Work::Inputs(inputs, finish, wish) => (inputs, finish, wish),
        };
        self.terms = self.terms.with(wish);
        let Inference { outputs, queued, ran, batch } = self.infer(inputs).await?;
        stages.queue = Some(queued);
        stages.inference = Some(ran);
        stages.batch = batch;
        let Stages { postprocess, plugin: usage, .. } = stages;
        timed(postprocess, self.finish(outputs, finish, usage)).await
    }

    /// The model's run, and what it shows of the model.
    async fn infer(&self, inputs: Vec<Tensor>) -> Result<Inference, Fault> {
        let pass = self.release.guard.admit()?;
        let urgency = self.terms.urgency();
        let left = urgency.deadline.remaining(now());
        let ran = self.model()?.infer(inputs, urgency).await.map_err(|fault| self.terms.blame(self.blame(fault)));
        pass.report(judge(&ran, left, self.release.parts.limits.timeout));
        ran
    }

    /// Inputs that the model fails on are the plugin's fault, if it made them.
    fn blame(&self, fault: Fault) -> Fault {
        if self.pre.is_none() || fault.code != Code::InvalidInput {
            return fault;
        }
        let message = format!("the plugin's tensors do not suit the model: {}", fault.message);
        Fault::new(Code::PluginBadOutput, message).because(fault.report().to_string())
    }

    /// The plugin's own way from the request to the reply, models included.
    async fn handle(&self, plugin: &dyn Plugin, request: Request, stages: &mut Stages) -> Result<Reply, Fault> {
        let Stages { handle, plugin: usage, .. } = stages;
        let work = async {
            let mut guest = self.open(plugin).await?;
            let reply = guest.handle(request).await;
            add(usage, &*guest);
            reply
        };
        let result = timed(handle, work).await;
        if let Some(usage) = stages.plugin.filter(|usage| usage.inferences > 0) {
            stages.queue = Some(usage.queued);
            stages.inference = Some(usage.inference);
        }
        result
    }

    async fn prepare(&self, request: Request, usage: &mut Option<PluginUsage>) -> Result<Work<'a>, Fault> {
        match self.pre {
            Some(plugin) => self.preprocess(plugin, request, usage).await,
            None => self.decode(request),
        }
    }

    /// The plugin's tensors are checked like a stranger's: it may not know the model that it was bound to.
    async fn preprocess(
        &self,
        plugin: &dyn Plugin,
        request: Request,
        usage: &mut Option<PluginUsage>,
    ) -> Result<Work<'a>, Fault> {
        let post = self.post.map(|post| (post, request.head.clone()));
        let mut guest = self.open(plugin).await?;
        let prepared = guest.preprocess(request).await;
        *usage = Some(guest.usage());
        let tensors = match prepared? {
            Prepared::Reply(reply) => return Ok(Work::Answered(reply)),
            Prepared::Tensors(tensors) => tensors,
        };
        let model = self.model()?.info();
        model.signature.check_inputs(&tensors).map_err(|mismatch| {
            Fault::new(Code::PluginBadOutput, format!("the plugin's tensors do not fit the model: {mismatch}"))
        })?;
        let finish = match post {
            Some((_same, head)) if self.release.parts.plugins.are_one() => Finish::SameGuest(guest, head),
            Some((post, head)) => Finish::Plugin(post, head),
            None => Finish::Encode(Wanted::all(&model.signature)),
        };
        Ok(Work::Inputs(tensors, finish, Wish::default()))
    }

    fn decode(&self, request: Request) -> Result<Work<'a>, Fault> {
        let model = self.model()?;
        let decoded =
            computing(request.body.len(), || decode(&request.head.headers, &request.body, model.info(), model.lender()))?;
        let finish = match self.post {
            Some(post) => Finish::Plugin(post, request.head),
            None => Finish::Encode(decoded.wanted),
        };
        Ok(Work::Inputs(decoded.inputs, finish, decoded.wish))
    }

    async fn finish(&self, outputs: Vec<Tensor>, finish: Finish<'_>, usage: &mut Option<PluginUsage>) -> Result<Reply, Fault> {
        match finish {
            Finish::SameGuest(mut guest, head) => {
                let reply = guest.postprocess(&head, outputs).await;
                // What it had used before is part of this.
                *usage = Some(guest.usage());
                reply
            }
            Finish::Plugin(plugin, head) => {
                let mut guest = self.open(plugin).await?;
                let reply = guest.postprocess(&head, outputs).await;
                add(usage, &*guest);
                reply
            }
            Finish::Encode(wanted) => self.encode(&wanted, &outputs),
        }
    }

    fn encode(&self, wanted: &Wanted, outputs: &[Tensor]) -> Result<Reply, Fault> {
        let bytes = outputs.iter().map(|output| output.data.len()).sum();
        computing(bytes, || encode(wanted, self.release.function().as_str(), self.release.parts.number, outputs))
    }

    async fn open(&self, plugin: &dyn Plugin) -> Result<Billed, Fault> {
        Ok(self.bill.guest(plugin.open(self.terms.urgency()).await?))
    }

    fn model(&self) -> Result<&dyn Model, Fault> {
        self.release.parts.model.as_deref().ok_or_else(|| {
            Fault::new(Code::PluginBadOutput, "the plugin made tensors, but the function has no model to run them on")
        })
    }
}

fn add(usage: &mut Option<PluginUsage>, guest: &dyn Guest) {
    *usage = Some(usage.unwrap_or_default().and(guest.usage()));
}

/// Does work that takes time in proportion to `bytes`: JSON at some 100 MB/s. Much of it would hold up the other requests of
/// this thread, so they are moved to another first; a little costs less than that.
fn computing<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    if bytes > COMPUTED_INLINE_BYTES_MAX { tokio::task::block_in_place(work) } else { work() }
}

/// Awaits a stage and notes how long it took, whether it ended well or not.
async fn timed<T>(slot: &mut Option<Duration>, stage: impl Future<Output = T>) -> T {
    let start = Instant::now();
    let result = stage.await;
    *slot = Some(start.elapsed());
    result
}
