//! What a plugin or a model is that is to be kept by name: tried as when a function is made of it, and dropped again. Blocking.

use anyhow::Result;
use bytes::Bytes;
use sandmill_domain::control::{InitOutcome, MeasuredDetail, ModelAbout, PluginAbout, TensorDetail};
use sandmill_domain::ports::Model as _;
use sandmill_domain::{Axis, TenantId, TensorSpec};
use sandmill_engine::{ModelOptions, ModelSource};
use sandmill_sandbox::{Inspection, Snapshot, Started};

use crate::deploy::Deployer;

impl Deployer {
    /// A component, compiled and started in quarantine. One whose `init` wants settings, assets or models is none the worse.
    pub(crate) fn inspect_plugin(&self, name: &str, bytes: &[u8]) -> Result<PluginAbout> {
        let Inspection { shape, grants, imports, exports, started } = self.sandbox.inspect(bytes, name)?;
        let texts = |words: Vec<&str>| words.into_iter().map(str::to_owned).collect();
        let (init, why_no_init) = outcome(started);
        Ok(PluginAbout { shape: texts(shape), init, why_no_init, grants: texts(grants), imports, exports })
    }

    /// A model, tried and measured with default options. What is found out is kept for this tenant alone.
    pub(crate) fn inspect_model(&self, name: &str, tenant: &TenantId, bytes: Bytes) -> Result<ModelAbout> {
        let options = ModelOptions { owner: tenant.to_string(), ..self.model_options.clone() };
        let model = self.engine.load(ModelSource::of(name, bytes), &options)?;
        let (times, profile, info) = (model.load_times(), model.measure(), model.info());
        let measured = MeasuredDetail {
            load_ms: millis(times.load),
            run_ms: millis(times.run),
            memory_bytes: model.state().warm_memory_bytes as u64,
            batch_rows_max: *profile.batches.as_ref().unwrap_or(&1),
            why_no_batches: profile.batches.as_ref().err().cloned(),
        };
        let tensors = |specs: &[TensorSpec]| specs.iter().map(tensor).collect();
        let (inputs, outputs) = (tensors(&info.signature.inputs), tensors(&info.signature.outputs));
        Ok(ModelAbout { inputs, outputs, tensors_left_out: 0, measured: Some(measured) })
    }
}

fn outcome(started: Started) -> (InitOutcome, Option<String>) {
    match started {
        Started::Well(Snapshot::NoInit) => (InitOutcome::None, None),
        Started::Well(Snapshot::Taken { .. }) => (InitOutcome::Snapshot, None),
        Started::Well(Snapshot::Impossible(why)) => (InitOutcome::NoSnapshot, Some(why)),
        Started::Failed(why) => (InitOutcome::Failed, Some(why)),
    }
}

fn tensor(spec: &TensorSpec) -> TensorDetail {
    // How far an axis may go is what each function says.
    let size = |axis: &Axis| if let Axis::Fixed(size) = axis { *size } else { -1 };
    TensorDetail {
        name: spec.name.clone(),
        datatype: spec.dtype.to_string(),
        shape: spec.shape.iter().map(size).collect(),
        axes: spec.shape.iter().map(|axis| axis.symbol().map(str::to_owned)).collect(),
    }
}

/// To the microsecond.
fn millis(time: std::time::Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}
