//! Inputs that a model has run on, and what it answered: by them it is told whether a session works.

use std::time::Duration;

use bytes::Bytes;
use sandmill_domain::Tensor;

use crate::compare::{Difference, differ};
use crate::trial::Trial;

/// The pair, in memory of its own: it is never given back while the model is there.
pub(crate) struct Golden {
    inputs: Vec<Tensor>,
    /// None if it answers otherwise each time.
    outputs: Option<Vec<Tensor>>,
    took: Duration,
}

/// How long a run on them may take: the model has run on them before, in far less,
const TIME: Duration = Duration::from_secs(5);
/// or in so much less.
const SLOWER: u32 = 8;

impl Golden {
    /// Of two runs on the same inputs.
    pub(crate) fn new(inputs: Vec<Tensor>, outputs: Vec<Tensor>, again: &[Tensor], took: Duration) -> Self {
        let own = |tensor: Tensor| Tensor { data: Bytes::copy_from_slice(&tensor.data), ..tensor };
        let own = |tensors: Vec<Tensor>| tensors.into_iter().map(own).collect();
        let is_steady = differ(&outputs, again).is_ok();
        Self { inputs: own(inputs), outputs: is_steady.then(|| own(outputs)), took }
    }

    /// How long a check may take.
    pub(crate) fn time(&self) -> Duration {
        TIME.max(self.took * SLOWER)
    }

    pub(crate) fn inputs(&self) -> &[Tensor] {
        &self.inputs
    }

    /// Whether the session runs on them and gives what it gave before; what is wrong if not, in words for its operator.
    pub(crate) fn check(&self, trial: Trial<'_>) -> Result<(), String> {
        let (outputs, _) =
            trial.run(&self.inputs).map_err(|fault| format!("it fails on inputs that it ran on before: {}", fault.report()))?;
        let Some(expected) = &self.outputs else { return Ok(()) };
        differ(expected, &outputs).map_err(|difference| match difference {
            Difference::Shape { name, one, other } => {
                format!("its output `{name}` was {one:?} when it was loaded and is {other:?}")
            }
            Difference::Value { name, by } => format!("its output `{name}` differs by {by:.1e} from when it was loaded"),
        })
    }
}
