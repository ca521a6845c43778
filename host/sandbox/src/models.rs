//! The contract's `models`: a handler's tensors, read where they lie, checked, copied once into memory that the engine lends,
//! and run.
//!
//! A run happens on a thread of the engine's, or on a task of its own. The guest's memory goes when its request is dropped, the run
//! may end later: so nothing of the guest's is borrowed beyond this file.

use std::sync::Arc;

use futures_util::stream::{self, StreamExt};
use sandmill_domain::ports::{BoxFuture, Inference, Model, PluginUsage, Share};
use sandmill_domain::{Code, Fault, Tensor, Urgency};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use wasmtime::StoreContextMut;
use wasmtime::component::Linker;

use crate::bindings::{Blob, Call, ModelError, ModelErrorKind, TensorGiven, TensorView};
use crate::convert::{self, NAME_BYTES_MAX, RANK_MAX};
use crate::fault::Halt;
use crate::lines::printable;
use crate::state::State;

const INTERFACE: &str = "sandmill:plugin/models@0.1.0";
/// Runs of one call side by side: each may hold the host's `output_bytes_max` before it is counted.
const RUNS_AT_ONCE: usize = 8;
/// Of an error's message to the guest.
const MESSAGE_BYTES_MAX: usize = 1 << 10;

type Outputs = Result<Vec<TensorGiven>, ModelError>;
type Ran = Result<Inference, ModelError>;

/// Makes them known to the linker.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut models = linker.instance(INTERFACE)?;
    models.func_wrap_async("infer", |mut store: StoreContextMut<'_, State>, (call,): (Call,)| {
        Box::new(async move {
            let mut outputs = run(&mut store, &[call]).await?;
            Ok((outputs.pop().unwrap_or_else(|| Err(refused("no call"))),))
        })
    })?;
    models.func_wrap_async("infer-many", |mut store: StoreContextMut<'_, State>, (calls,): (Vec<Call>,)| {
        Box::new(async move { Ok((run(&mut store, &calls).await?,)) })
    })
}

/// Runs the calls, some at a time, side by side: one result each, in order. What all of them give is bounded as what the plugin
/// gives is; a guest that asks for more is ended when it is there, with the rest not begun.
async fn run(store: &mut StoreContextMut<'_, State>, calls: &[Call]) -> wasmtime::Result<Vec<Outputs>> {
    check_sizes(store, calls)?;
    let urgency = Urgency { deadline: store.data().deadline, priority: store.data().priority };
    let begun: Vec<_> = calls.iter().map(|call| begin(store, call)).collect::<wasmtime::Result<_>>()?;
    let mut runs: Vec<BoxFuture<'static, Ran>> = Vec::with_capacity(begun.len());
    for work in begun {
        runs.push(Box::pin(apart(infer(work, urgency), store.data().facts.share.clone())));
    }
    let mut runs = stream::iter(runs).buffered(RUNS_AT_ONCE);
    let max = store.data().facts.limits.output_bytes_max;
    let (mut outputs, mut bytes) = (Vec::with_capacity(calls.len()), 0_usize);
    while let Some(ran) = runs.next().await {
        bytes = bytes.saturating_add(ran.as_ref().map_or(0, size));
        if bytes > max {
            return Err(Halt::ModelOutputs(max).into());
        }
        outputs.push(ran.map(|inference| note(&mut store.data_mut().usage, inference)));
    }
    Ok(outputs)
}

/// Runs it on a task of its own, which ends with whoever waits, and takes turns by its share: here is a guest's stack, which may be too small
/// for the runtime's kernels, and one poll of a guest's must not make many runs.
async fn apart(run: impl Future<Output = Ran> + Send + 'static, share: Option<Arc<dyn Share>>) -> Ran {
    struct Task(JoinHandle<()>);
    impl Drop for Task {
        fn drop(&mut self) {
            self.0.abort();
        }
    }
    let (told, ran) = oneshot::channel();
    let work: BoxFuture<'static, ()> = Box::pin(async move { drop(told.send(run.await)) });
    let _task = Task(tokio::spawn(if let Some(share) = share { share.pace(work) } else { work }));
    ran.await.unwrap_or_else(|_broke| Err(ModelError { kind: ModelErrorKind::Failed, message: "the run broke".into() }))
}

/// Of all that a run gave, in bytes.
fn size(inference: &Inference) -> usize {
    inference.outputs.iter().map(|output| output.data.len()).sum()
}

/// Adds a run to what the request has used; what is left are its outputs.
fn note(usage: &mut PluginUsage, inference: Inference) -> Vec<TensorGiven> {
    usage.inferences += 1;
    usage.queued += inference.queued;
    usage.inference += inference.ran;
    inference.outputs.into_iter().map(given).collect()
}

/// All tensors of all calls count together: side by side, they are there together.
fn check_sizes(store: &StoreContextMut<'_, State>, calls: &[Call]) -> wasmtime::Result<()> {
    let limits = &store.data().facts.limits;
    if calls.len() > limits.tensors_max {
        return Err(Halt::ModelInputs { name: "plugin_tensors_max", max: limits.tensors_max }.into());
    }
    let sizes: Vec<usize> = calls.iter().flat_map(|call| call.inputs.iter().map(|tensor| tensor.data.len())).collect();
    convert::check_sizes(sizes.into_iter(), limits).map_err(|excess| {
        let (name, max) = match excess {
            convert::Excess::Count(_, max) => ("plugin_tensors_max", max),
            convert::Excess::One(_, max) => ("plugin_tensor_bytes_max", max),
            convert::Excess::All(_, max) => ("plugin_output_bytes_max", max),
        };
        Halt::ModelInputs { name, max }.into()
    })
}

/// What is to be run, with nothing of the guest's in it any more; or why it cannot be.
type Work = Result<(Arc<dyn Model>, Vec<Tensor>), ModelError>;

/// # Errors
/// A guest that breaks the contract, such as a name that is not UTF-8: that ends it.
fn begin(store: &StoreContextMut<'_, State>, call: &Call) -> wasmtime::Result<Work> {
    let name = call.model.to_str(store)?;
    let facts = &store.data().facts;
    let Some(model) = facts.models.iter().find(|model| model.info().name == name) else {
        let known: Vec<&str> = facts.models.iter().map(|model| model.info().name.as_str()).collect();
        let shown = printable(&name, NAME_BYTES_MAX);
        let message = format!("the function has no model `{shown}`; it has {}", known.join(", "));
        return Ok(Err(ModelError { kind: ModelErrorKind::UnknownModel, message }));
    };
    let mut inputs = Vec::with_capacity(call.inputs.len());
    for view in &call.inputs {
        match read(store, view, model.as_ref())? {
            Ok(tensor) => inputs.push(tensor),
            Err(error) => return Ok(Err(error)),
        }
    }
    let checked = model.info().signature.check_inputs(&inputs).map_err(|mismatch| refused(&mismatch.to_string()));
    Ok(checked.map(|()| (Arc::clone(model), inputs)))
}

/// One tensor, copied into memory that the engine lends.
fn read(
    store: &StoreContextMut<'_, State>,
    view: &TensorView,
    model: &dyn Model,
) -> wasmtime::Result<Result<Tensor, ModelError>> {
    let name = view.name.to_str(store)?;
    let shown = || printable(&name, NAME_BYTES_MAX);
    if name.len() > NAME_BYTES_MAX || view.shape.len() > RANK_MAX {
        return Ok(Err(refused(&format!("tensor `{}`: its name is too long, or it has too many axes", shown()))));
    }
    let axes = view.shape.as_le_slice(store).iter().map(|axis| i64::try_from(u64::from_le(*axis)));
    let Ok(shape) = axes.collect::<Result<Vec<i64>, _>>() else {
        return Ok(Err(refused(&format!("tensor `{}`: an axis is beyond 2^63", shown()))));
    };
    let bytes = view.data.as_le_slice(store);
    let dtype = convert::dtype_from_guest(view.dtype);
    if !convert::fits(dtype, &shape, bytes) {
        let message = format!("tensor `{}`: its data is not as long as its shape and datatype say", shown());
        return Ok(Err(refused(&message)));
    }
    let lent = model.lender().lend(bytes.len()).and_then(|mut buffer| {
        let pushed = buffer.push(bytes);
        pushed.map(|()| buffer.freeze()).map_err(|_room| Fault::new(Code::Internal, "a lent buffer is too small"))
    });
    Ok(lent.map(|data| Tensor { name: name.into_owned(), dtype, shape, data }).map_err(|fault| failed(&fault)))
}

async fn infer(work: Work, urgency: Urgency) -> Ran {
    let (model, inputs) = work?;
    model.infer(inputs, urgency).await.map_err(|fault| failed(&fault))
}

fn refused(message: &str) -> ModelError {
    ModelError { kind: ModelErrorKind::InvalidTensors, message: printable(message, MESSAGE_BYTES_MAX) }
}

/// A fault of the engine's, in the guest's terms.
fn failed(fault: &Fault) -> ModelError {
    let kind = match fault.code {
        Code::InvalidInput => ModelErrorKind::InvalidTensors,
        Code::Overloaded | Code::NotReady | Code::TooManyRequests => ModelErrorKind::Overloaded,
        Code::DeadlineExceeded => ModelErrorKind::Deadline,
        _ => ModelErrorKind::Failed,
    };
    ModelError { kind, message: printable(&fault.message, MESSAGE_BYTES_MAX) }
}

fn given(tensor: Tensor) -> TensorGiven {
    // A domain tensor's axes are not negative.
    let shape = tensor.shape.iter().map(|axis| u64::try_from(*axis).unwrap_or(0)).collect();
    TensorGiven { name: tensor.name, dtype: convert::dtype_to_guest(tensor.dtype), shape, data: Blob(tensor.data) }
}
