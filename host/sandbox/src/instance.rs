//! One plugin instance for one request: calls into the guest, and turns what it gives into the domain's types.

use std::sync::Arc;

use sandmill_domain::ports::{BoxFuture, Guest, Prepared};
use sandmill_domain::{Code, Fault, Reply, Request, RequestHead, Tensor};
use wasmtime::Store;
use wasmtime::component::{ComponentNamedList, Lift, Lower, TypedFunc};

use crate::bindings::{self as wit, PostprocessArgs, PostprocessResults, PreprocessArgs, PreprocessResults};
use crate::state::State;
use crate::stopwatch::Stopwatch;
use crate::{convert, fault};

/// An instance; dropping it frees all that the guest holds, and ends a call under way.
pub(crate) struct Running {
    pub(crate) store: Store<State>,
    pub(crate) stopwatch: Arc<Stopwatch>,
    pub(crate) preprocess: Option<TypedFunc<PreprocessArgs<'static>, PreprocessResults>>,
    pub(crate) postprocess: Option<TypedFunc<PostprocessArgs<'static>, PostprocessResults>>,
}

impl Running {
    async fn call<Args, Results>(&mut self, function: TypedFunc<Args, (Results,)>, args: Args) -> Result<Results, Fault>
    where
        Args: ComponentNamedList + Lower + Send + Sync,
        (Results,): ComponentNamedList + Lift + Send + Sync + 'static,
    {
        self.store.set_epoch_deadline(1);
        let result = self.stopwatch.measure(function.call_async(&mut self.store, args)).await;
        match result {
            Ok((results,)) => Ok(results),
            Err(error) => Err(fault::from_error(error, self.store.data())),
        }
    }

    fn output_bytes_max(&self) -> usize {
        self.store.data().facts.output_bytes_max
    }
}

impl Guest for Running {
    fn preprocess(&mut self, request: Request) -> BoxFuture<'_, Result<Prepared, Fault>> {
        Box::pin(async move {
            let function: TypedFunc<PreprocessArgs<'_>, _> = self.preprocess.ok_or_else(|| missing("preprocess"))?;
            let headers = convert::headers_to_guest(&request.head.headers);
            let head = convert::head_to_guest(&request.head, &headers);
            let result = self.call(function, (wit::Request { head, body: &request.body },)).await?;
            convert::prepared_from_guest(result, self.output_bytes_max())
        })
    }

    fn postprocess<'a>(&'a mut self, head: &'a RequestHead, outputs: Vec<Tensor>) -> BoxFuture<'a, Result<Reply, Fault>> {
        Box::pin(async move {
            let function: TypedFunc<PostprocessArgs<'_>, _> = self.postprocess.ok_or_else(|| missing("postprocess"))?;
            let headers = convert::headers_to_guest(&head.headers);
            let head = convert::head_to_guest(head, &headers);
            let shapes = convert::shapes_to_guest(&outputs);
            let tensors = convert::tensors_to_guest(&outputs, &shapes);
            let result = self.call(function, (head, tensors.as_slice())).await?;
            convert::reply_from_guest(result, self.output_bytes_max())
        })
    }
}

fn missing(function: &str) -> Fault {
    Fault::new(Code::Internal, format!("the plugin has no `{function}`, but it was called"))
}
