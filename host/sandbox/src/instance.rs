//! One plugin instance for one request: calls into the guest, and turns what it gives into the domain's types.

use std::sync::Arc;

use sandmill_domain::ports::{BoxFuture, Guest, PluginUsage, Prepared};
use sandmill_domain::{Blame, Code, Fault, PluginLimits, Reply, Request, RequestHead, Tensor};
use wasmtime::Store;
use wasmtime::component::{ComponentNamedList, Lift, Lower, TypedFunc};

use crate::bindings::{
    self as wit, HandleArgs, HandleResults, PostprocessArgs, PostprocessResults, PreprocessArgs, PreprocessResults,
};
use crate::fault::Halt;
use crate::plugin::{Inner, Place};
use crate::reuse::Wear;
use crate::state::State;
use crate::{convert, fault};

/// An instance and its exports.
pub(crate) struct Live {
    pub(crate) store: Store<State>,
    pub(crate) preprocess: Option<TypedFunc<PreprocessArgs<'static>, PreprocessResults>>,
    pub(crate) postprocess: Option<TypedFunc<PostprocessArgs<'static>, PostprocessResults>>,
    pub(crate) handle: Option<TypedFunc<HandleArgs<'static>, HandleResults>>,
    /// What is left of its budget; none for an instance of one request.
    pub(crate) wear: Option<Wear>,
}

/// An instance at work. Dropping it ends a call under way, and frees all that the guest holds unless the instance is of a kind
/// that is reused and every call of it has ended well.
pub(crate) struct Running {
    /// None only while it is dropped.
    live: Option<Live>,
    plugin: Arc<Inner>,
    /// Whether its request is answered, and well, or has not begun.
    sound: bool,
    _place: Place,
}

impl Running {
    pub(crate) fn new(live: Live, plugin: Arc<Inner>, place: Place) -> Self {
        Self { live: Some(live), plugin, sound: true, _place: place }
    }

    fn live(&mut self) -> &mut Live {
        self.live.as_mut().expect("invariant: it is there until it is dropped")
    }

    async fn call<Args, Results>(&mut self, function: TypedFunc<Args, (Results,)>, args: Args) -> Result<Results, Fault>
    where
        Args: ComponentNamedList + Lower + Send + Sync,
        (Results,): ComponentNamedList + Lift + Send + Sync + 'static,
    {
        self.sound = false;
        let store = &mut self.live().store;
        store.set_epoch_deadline(1);
        // A guest that waits in a host's function meets no tick.
        let deadline = store.data().deadline.instant();
        match tokio::time::timeout_at(deadline.into(), function.call_async(&mut *store, args)).await {
            Ok(Ok((results,))) => Ok(results),
            Ok(Err(error)) => Err(fault::from_error(&error, store.data())),
            Err(_elapsed) => Err(fault::from_error(&Halt::Deadline.into(), store.data())),
        }
    }

    fn limits(&self) -> &PluginLimits {
        &self.plugin.facts.limits
    }
}

impl Guest for Running {
    fn preprocess(&mut self, request: Request) -> BoxFuture<'_, Result<Prepared, Fault>> {
        Box::pin(async move {
            let function: TypedFunc<PreprocessArgs<'_>, _> = self.live().preprocess.ok_or_else(|| missing("preprocess"))?;
            let headers = convert::headers_to_guest(&request.head.headers);
            let head = convert::head_to_guest(&request.head, &headers);
            let result = self.call(function, (wit::Request { head, body: &request.body },)).await?;
            let prepared = convert::prepared_from_guest(result, self.limits());
            // With tensors for the model it is in the middle of its request, if it postprocesses too.
            let halfway = matches!(prepared, Ok(Prepared::Tensors(_))) && self.live().postprocess.is_some();
            self.sound = !halfway && is_well(&prepared);
            prepared
        })
    }

    fn postprocess<'a>(&'a mut self, head: &'a RequestHead, outputs: Vec<Tensor>) -> BoxFuture<'a, Result<Reply, Fault>> {
        Box::pin(async move {
            let function: TypedFunc<PostprocessArgs<'_>, _> = self.live().postprocess.ok_or_else(|| missing("postprocess"))?;
            let headers = convert::headers_to_guest(&head.headers);
            let head = convert::head_to_guest(head, &headers);
            let shapes = convert::shapes_to_guest(&outputs);
            let tensors = convert::tensors_to_guest(&outputs, &shapes);
            let result = self.call(function, (head, tensors.as_slice())).await?;
            let reply = convert::reply_from_guest(result, self.limits());
            self.sound = is_well(&reply);
            reply
        })
    }

    fn handle(&mut self, request: Request) -> BoxFuture<'_, Result<Reply, Fault>> {
        Box::pin(async move {
            let function: TypedFunc<HandleArgs<'_>, _> = self.live().handle.ok_or_else(|| missing("handle"))?;
            let headers = convert::headers_to_guest(&request.head.headers);
            let head = convert::head_to_guest(&request.head, &headers);
            let result = self.call(function, (wit::Request { head, body: &request.body },)).await?;
            let reply = convert::reply_from_guest(result, self.limits());
            self.sound = is_well(&reply);
            reply
        })
    }

    fn usage(&self) -> PluginUsage {
        self.live.as_ref().map(|live| live.store.data().usage()).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(mut live) = self.live.take().filter(|_| self.sound) else { return };
        if let Some(mut wear) = live.wear.take() {
            wear.count();
            self.plugin.keep(wear, live);
        }
    }
}

/// Whether the guest did as it should: also where it refuses what a caller sent.
fn is_well<T>(result: &Result<T, Fault>) -> bool {
    result.as_ref().err().is_none_or(|fault| fault.blame == Blame::Caller)
}

fn missing(function: &str) -> Fault {
    Fault::new(Code::Internal, format!("the plugin has no `{function}`, but it was called"))
}
