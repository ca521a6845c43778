//! The contract of `wit/v0.1` as Rust types, and typed handles to a plugin's exports. Knows no domain type.
#![allow(
    unsafe_code,
    reason = "generated code; `Export::of`, which makes typed handles of functions whose type was checked before; `Blob`, which \
              lowers as the slice that it holds"
)]

use std::marker::PhantomData;
use std::mem::MaybeUninit;

use bytes::Bytes;
use wasmtime::component::__internal::{CanonicalAbiInfo, InstanceType, InterfaceType, LowerContext};
use wasmtime::component::types::{Component as ComponentTypes, ComponentItem};
use wasmtime::component::{
    Component, ComponentExportIndex, ComponentNamedList, ComponentType, Instance, Lift, Lower, TypedFunc, WasmList, WasmStr,
};
use wasmtime::{AsContextMut, error::Context as _};

mod generated {
    #![allow(missing_docs, unreachable_pub, dead_code, reason = "documented in the WIT; more is generated than used")]

    wasmtime::component::bindgen!({
        inline: "
            package sandmill:host;

            world host {
                include sandmill:plugin/processor-with-init@0.1.0;
                export sandmill:plugin/handler@0.1.0;
            }
        ",
        path: "../../wit/v0.1",
        exports: { default: async },
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

pub(crate) use generated::exports::sandmill::plugin::init::Asset;
pub(crate) use generated::exports::sandmill::plugin::preprocess::Prepared;
pub(crate) use generated::sandmill::plugin::types::{
    Dtype, Error, ErrorKind, HeaderParam, HeaderResult, Request, RequestHead, Response, TensorParam, TensorResult,
};
pub(crate) use generated::sandmill::plugin::{config, log, model_info};

/// The arguments of `init`.
pub(crate) type InitArgs<'a> = (&'a [(&'a str, &'a str)], &'a [Asset<'a>]);
/// The results of `init`.
pub(crate) type InitResults = (Result<(), String>,);
/// The arguments of `preprocess`.
pub(crate) type PreprocessArgs<'a> = (Request<'a>,);
/// The results of `preprocess`.
pub(crate) type PreprocessResults = (Result<Prepared, Error>,);
/// The arguments of `postprocess`.
pub(crate) type PostprocessArgs<'a> = (RequestHead<'a>, &'a [TensorParam<'a>]);
/// The results of `postprocess`.
pub(crate) type PostprocessResults = (Result<Response, Error>,);
/// The arguments of `handle`.
pub(crate) type HandleArgs<'a> = (Request<'a>,);
/// The results of `handle`.
pub(crate) type HandleResults = (Result<Response, Error>,);

/// `models.call`, where it lies in the guest: nothing of it is copied yet.
#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct Call {
    pub(crate) model: WasmStr,
    pub(crate) inputs: Vec<TensorView>,
}

/// `types.tensor`, where it lies in the guest.
#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct TensorView {
    pub(crate) name: WasmStr,
    pub(crate) dtype: Dtype,
    pub(crate) shape: WasmList<u64>,
    pub(crate) data: WasmList<u8>,
}

/// `types.tensor`, on its way into the guest.
#[derive(ComponentType, Lower)]
#[component(record)]
pub(crate) struct TensorGiven {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<u64>,
    pub(crate) data: Blob,
}

/// `models.error-kind`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lower)]
#[component(enum)]
#[repr(u8)]
#[allow(clippy::enum_variant_names, reason = "the contract's names")]
pub(crate) enum ModelErrorKind {
    #[component(name = "unknown-model")]
    UnknownModel,
    #[component(name = "invalid-tensors")]
    InvalidTensors,
    #[component(name = "overloaded")]
    Overloaded,
    #[component(name = "deadline")]
    Deadline,
    #[component(name = "failed")]
    Failed,
}

/// `models.error`
#[derive(Debug, ComponentType, Lower)]
#[component(record)]
pub(crate) struct ModelError {
    pub(crate) kind: ModelErrorKind,
    pub(crate) message: String,
}

/// A `list<u8>` that is copied into the guest from wherever its bytes lie.
pub(crate) struct Blob(pub(crate) Bytes);

// SAFETY: in the component's terms it is the slice that it holds: every item is the slice's own.
unsafe impl ComponentType for Blob {
    type Lower = <[u8] as ComponentType>::Lower;

    const ABI: CanonicalAbiInfo = <[u8] as ComponentType>::ABI;

    fn typecheck(ty: &InterfaceType, types: &InstanceType<'_>) -> wasmtime::Result<()> {
        <[u8] as ComponentType>::typecheck(ty, types)
    }
}

// SAFETY: as above.
unsafe impl Lower for Blob {
    fn linear_lower_to_flat<T>(
        &self,
        context: &mut LowerContext<'_, T>,
        ty: InterfaceType,
        place: &mut MaybeUninit<Self::Lower>,
    ) -> wasmtime::Result<()> {
        <[u8] as Lower>::linear_lower_to_flat(&self.0, context, ty, place)
    }

    fn linear_lower_to_memory<T>(
        &self,
        context: &mut LowerContext<'_, T>,
        ty: InterfaceType,
        offset: usize,
    ) -> wasmtime::Result<()> {
        <[u8] as Lower>::linear_lower_to_memory(&self.0, context, ty, offset)
    }
}

/// A function that a component exports, its type checked: found once per plugin, so that a request only resolves an index.
pub(crate) struct Export<Args, Results> {
    index: ComponentExportIndex,
    types: PhantomData<fn(Args) -> Results>,
}

impl<Args, Results> Export<Args, Results>
where
    Args: ComponentNamedList + Lower,
    Results: ComponentNamedList + Lift,
{
    /// The function `name` of the exported interface `interface`, a full name.
    ///
    /// # Errors
    /// If there is none, or its type is another; the error says what differs.
    pub(crate) fn find(component: &Component, interface: &str, name: &str) -> wasmtime::Result<Self> {
        let ty: ComponentTypes = component.component_type();
        let lookup = || {
            let instance = component.get_export_index(None, interface)?;
            component.get_export(Some(&instance), name)
        };
        match lookup() {
            Some((ComponentItem::ComponentFunc(function), index)) => {
                function.typecheck::<Args, Results>(&ty.instance_type()).with_context(|| format!("function `{name}`"))?;
                Ok(Self { index, types: PhantomData })
            }
            _ => wasmtime::bail!("there is no function `{name}` in it"),
        }
    }

    /// The function in an instance of the component it was found in.
    ///
    /// # Panics
    /// If the instance is another component's: a bug.
    pub(crate) fn of(&self, mut store: impl AsContextMut, instance: &Instance) -> TypedFunc<Args, Results> {
        let function = instance.get_func(&mut store, self.index).expect("invariant: the instance is of the same component");
        // SAFETY: `find` is the only place that makes an `Export`, and it has checked this function's type in this
        // component against `Args` and `Results`; an index of another component is refused by `get_func` above.
        unsafe { TypedFunc::new_unchecked(function) }
    }
}
