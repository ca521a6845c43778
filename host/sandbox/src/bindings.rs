//! The contract of `wit/v0.1` as Rust types, and typed handles to a plugin's exports. Knows no domain type.
#![allow(
    unsafe_code,
    reason = "generated code, and `Export::of`: both make typed handles of functions whose type was checked before"
)]

use std::marker::PhantomData;

use wasmtime::component::types::{Component as ComponentType, ComponentItem};
use wasmtime::component::{Component, ComponentExportIndex, ComponentNamedList, Instance, Lift, Lower, TypedFunc};
use wasmtime::{AsContextMut, error::Context as _};

mod generated {
    #![allow(missing_docs, unreachable_pub, dead_code, reason = "documented in the WIT; more is generated than used")]

    wasmtime::component::bindgen!({
        path: "../../wit/v0.1",
        world: "sandmill:plugin/processor",
        exports: { default: async },
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

pub(crate) use generated::exports::sandmill::plugin::preprocess::Prepared;
pub(crate) use generated::sandmill::plugin::types::{
    Dtype, Error, ErrorKind, HeaderParam, HeaderResult, Request, RequestHead, Response, TensorParam, TensorResult,
};
pub(crate) use generated::sandmill::plugin::{config, log, model_info};

/// The arguments of `preprocess`.
pub(crate) type PreprocessArgs<'a> = (Request<'a>,);
/// The results of `preprocess`.
pub(crate) type PreprocessResults = (Result<Prepared, Error>,);
/// The arguments of `postprocess`.
pub(crate) type PostprocessArgs<'a> = (RequestHead<'a>, &'a [TensorParam<'a>]);
/// The results of `postprocess`.
pub(crate) type PostprocessResults = (Result<Response, Error>,);

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
        let ty: ComponentType = component.component_type();
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
