//! The imports of the contract: `log`, `config`, `model-info`. They answer from what the plugin was loaded with.

use sandmill_domain::{Axis, ModelInfo, Setting, Signature, TensorSpec};
use tracing::Level;
use wasmtime::StoreContextMut;
use wasmtime::component::{HasSelf, Linker, WasmStr};

use crate::bindings::{config, log, model_info};
use crate::convert;
use crate::state::State;

/// Makes them known to the linker.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    config::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    model_info::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    // By hand, to read the message where it lies: the generated function would copy it, however long, even when it is
    // dropped.
    linker
        .instance("sandmill:plugin/log@0.1.0")?
        .func_wrap("log", |store: StoreContextMut<'_, State>, (level, message): (log::Level, WasmStr)| {
            write_line(&store, level, &message)
        })
}

fn write_line(store: &StoreContextMut<'_, State>, level: log::Level, message: &WasmStr) -> wasmtime::Result<()> {
    let lines = &store.data().lines;
    if !lines.is_full() {
        lines.write(level.into(), &message.to_str(store)?);
    }
    Ok(())
}

impl From<log::Level> for Level {
    fn from(level: log::Level) -> Self {
        match level {
            log::Level::Trace => Self::TRACE,
            log::Level::Debug => Self::DEBUG,
            log::Level::Info => Self::INFO,
            log::Level::Warn => Self::WARN,
            log::Level::Error => Self::ERROR,
        }
    }
}

impl config::Host for State {
    fn get(&mut self, key: String) -> Option<String> {
        self.settings().find(|setting| setting.key == key).map(|setting| setting.value.clone())
    }

    fn all(&mut self) -> Vec<(String, String)> {
        self.settings().map(|setting| (setting.key.clone(), setting.value.clone())).collect()
    }
}

impl State {
    /// Those that there are now: secrets are for requests alone.
    fn settings(&self) -> impl Iterator<Item = &Setting> {
        self.facts.config.iter().filter(|setting| !(self.starting && setting.secret))
    }

    fn model(&self, name: &str) -> Option<&ModelInfo> {
        self.facts.infos.iter().find(|info| info.name == name).map(|info| &**info)
    }
}

impl model_info::Host for State {
    fn names(&mut self) -> Vec<String> {
        self.facts.infos.iter().map(|info| info.name.clone()).collect()
    }

    fn signature(&mut self, model: String) -> Option<model_info::ModelSignature> {
        self.model(&model).map(|model| (&model.signature).into())
    }

    fn metadata(&mut self, model: String) -> Vec<(String, String)> {
        self.model(&model).map(|model| model.metadata.clone()).unwrap_or_default()
    }
}

impl From<&Signature> for model_info::ModelSignature {
    fn from(signature: &Signature) -> Self {
        let specs = |tensors: &[TensorSpec]| tensors.iter().map(Into::into).collect();
        Self { inputs: specs(&signature.inputs), outputs: specs(&signature.outputs) }
    }
}

impl From<&TensorSpec> for model_info::TensorSpec {
    fn from(spec: &TensorSpec) -> Self {
        let shape = spec.shape.iter().map(Into::into).collect();
        Self { name: spec.name.clone(), dtype: convert::dtype_to_guest(spec.dtype), shape }
    }
}

impl From<&Axis> for model_info::Axis {
    fn from(axis: &Axis) -> Self {
        // No model has a negative axis; one that did would take nothing.
        let size = |size: &i64| u64::try_from(*size).unwrap_or(0);
        match axis {
            Axis::Fixed(fixed) => Self::Fixed(size(fixed)),
            Axis::Dynamic { max, .. } => Self::Dynamic(size(max)),
            // The contract knows no lists of sizes: a guest that asks for another one is told which there are.
            Axis::Sizes { sizes, .. } => Self::Dynamic(sizes.last().map_or(0, size)),
        }
    }
}
