//! Runs a model on zeros until it is at its pace, through the same queue and contexts as any other call. Knows nothing of the
//! runtime.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use sandmill_domain::ports::Inference;
use sandmill_domain::{Axis, Blame, Code, Deadline, Fault, Lender, Mismatch, Signature, Tensor, TensorSpec};

use crate::context::Contexts;

/// The size that axes which vary are given.
const AXIS_SMALLEST: i64 = 1;
/// The size for a second try: some models fail on images of a single pixel.
const AXIS_LARGER: i64 = 64;
/// The zeros that are written at once.
const ZEROS: [u8; 4096] = [0; 4096];

/// A model that is loaded, and what warming it up may take.
pub(crate) struct WarmUp<'a> {
    pub(crate) contexts: &'a Contexts,
    pub(crate) signature: &'a Signature,
    pub(crate) lender: &'a dyn Lender,
    pub(crate) deadline: Deadline,
}

impl WarmUp<'_> {
    /// Makes `runs` runs and then one that is timed, all of the smallest shapes that succeed; gives its time and the inputs. Blocks,
    /// to the deadline at most.
    pub(crate) fn run(&self, runs: usize) -> Result<(Duration, Vec<Tensor>), Fault> {
        let (inputs, mut timed) = self.first()?;
        // One is done, and one more is timed.
        for _ in 0..runs {
            timed = self.infer(&inputs)?;
        }
        Ok((timed.ran, inputs))
    }

    fn first(&self) -> Result<(Vec<Tensor>, Inference), Fault> {
        let smallest = self.zeros(AXIS_SMALLEST)?;
        let fault = match self.infer(&smallest) {
            Ok(inference) => return Ok((smallest, inference)),
            Err(fault) => fault,
        };
        let larger = self.zeros(AXIS_LARGER)?;
        if fault.code != Code::ModelFailed || larger == smallest {
            return Err(fault);
        }
        // The first fault says more: it is about the shapes that are tried for every model.
        self.infer(&larger).map(|inference| (larger, inference)).map_err(|_| fault)
    }

    fn infer(&self, inputs: &[Tensor]) -> Result<Inference, Fault> {
        block_on(self.contexts.submit(inputs.to_vec(), self.deadline)?.wait())
    }

    /// Zeros, and empty byte strings, for every input.
    fn zeros(&self, axis_size: i64) -> Result<Vec<Tensor>, Fault> {
        self.signature.inputs.iter().map(|spec| zero(spec, axis_size, self.lender)).collect()
    }
}

fn zero(spec: &TensorSpec, axis_size: i64, lender: &dyn Lender) -> Result<Tensor, Fault> {
    let shape: Vec<i64> = spec.shape.iter().enumerate().map(|(index, axis)| size(index, axis, axis_size)).collect();
    let count = spec.check_shape(spec.dtype, &shape).map_err(|error| unfit(&error))?;
    // The plain form of an empty byte string is a length of zero.
    let bytes = count.saturating_mul(spec.dtype.size().unwrap_or(4));
    let mut buffer = lender.lend(bytes)?;
    while buffer.len() < bytes {
        let room = ZEROS.len().min(bytes - buffer.len());
        buffer.push(&ZEROS[..room]).map_err(|_| short())?;
    }
    Ok(Tensor { name: spec.name.clone(), dtype: spec.dtype, shape, data: buffer.freeze() })
}

/// Inputs of ours that the model's own signature refuses.
pub(crate) fn unfit(mismatch: &Mismatch) -> Fault {
    Fault::new(Code::ModelFailed, mismatch.to_string())
}

pub(crate) fn short() -> Fault {
    Fault::new(Code::Internal, "a lent buffer is too short").blaming(Blame::Host)
}

/// The first axis is mostly the batch, which may well be 1.
fn size(index: usize, axis: &Axis, axis_size: i64) -> i64 {
    axis.nearest(if index == 0 { 1 } else { axis_size })
}

/// Waits for a future on this thread, wherever it is: loading must work on a thread of an async runtime too.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    // On a task's own thread, its budget would be used up at some time, and never given anew.
    let mut future = pin!(tokio::task::unconstrained(future));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}
