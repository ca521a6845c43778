//! What a component may import and must export, told by names and types alone. Runs no guest.

use wasmtime::Engine;
use wasmtime::component::{Component, ComponentNamedList, Lift, Lower};

use crate::bindings::{Export, PostprocessArgs, PostprocessResults, PreprocessArgs, PreprocessResults};
use crate::load::LoadError;

/// Interfaces that every plugin may import, with the series of versions that this host speaks.
const GRANTED: [(&str, &str); 24] = [
    ("sandmill:plugin/types", "0.1."),
    ("sandmill:plugin/log", "0.1."),
    ("sandmill:plugin/config", "0.1."),
    ("sandmill:plugin/model-info", "0.1."),
    ("wasi:cli/environment", "0.2."),
    ("wasi:cli/exit", "0.2."),
    ("wasi:cli/stdin", "0.2."),
    ("wasi:cli/stdout", "0.2."),
    ("wasi:cli/stderr", "0.2."),
    ("wasi:cli/terminal-input", "0.2."),
    ("wasi:cli/terminal-output", "0.2."),
    ("wasi:cli/terminal-stdin", "0.2."),
    ("wasi:cli/terminal-stdout", "0.2."),
    ("wasi:cli/terminal-stderr", "0.2."),
    ("wasi:io/error", "0.2."),
    ("wasi:io/poll", "0.2."),
    ("wasi:io/streams", "0.2."),
    ("wasi:clocks/monotonic-clock", "0.2."),
    ("wasi:clocks/wall-clock", "0.2."),
    ("wasi:filesystem/types", "0.2."),
    ("wasi:filesystem/preopens", "0.2."),
    ("wasi:random/random", "0.2."),
    ("wasi:random/insecure", "0.2."),
    ("wasi:random/insecure-seed", "0.2."),
];

/// Exports of the contract that this version does not run yet.
const NOT_YET: [&str; 2] = ["sandmill:plugin/handler", "sandmill:plugin/init"];
const PREPROCESS: &str = "sandmill:plugin/preprocess";
const POSTPROCESS: &str = "sandmill:plugin/postprocess";
/// The series of the contract's versions that this host runs.
const SERIES: &str = "0.1.";

/// What a plugin does: at least one of the two.
pub(crate) struct Shape {
    pub(crate) preprocess: Option<Export<PreprocessArgs<'static>, PreprocessResults>>,
    pub(crate) postprocess: Option<Export<PostprocessArgs<'static>, PostprocessResults>>,
}

/// The shape of a component that keeps to the contract.
///
/// # Errors
/// What it exports that is not run yet, all that it imports without a grant, or what is wrong with its exports.
pub(crate) fn check(engine: &Engine, component: &Component) -> Result<Shape, LoadError> {
    let ty = component.component_type();
    let exports: Vec<&str> = ty.exports(engine).map(|(name, _)| name).collect();
    if let Some(name) = exports.iter().find(|name| NOT_YET.iter().any(|interface| is_version_of(name, interface, SERIES))) {
        return Err(LoadError::NotYet { interface: (*name).into() });
    }
    let refused: Vec<String> =
        ty.imports(engine).map(|(name, _)| name).filter(|name| !is_granted(name)).map(Into::into).collect();
    if !refused.is_empty() {
        return Err(LoadError::RefusedImports { names: refused });
    }
    let shape = Shape {
        preprocess: find(component, &exports, PREPROCESS, "preprocess")?,
        postprocess: find(component, &exports, POSTPROCESS, "postprocess")?,
    };
    if shape.preprocess.is_none() && shape.postprocess.is_none() {
        return Err(LoadError::NothingExported { exports: exports.into_iter().map(Into::into).collect() });
    }
    Ok(shape)
}

fn find<Args, Results>(
    component: &Component,
    exports: &[&str],
    interface: &str,
    function: &str,
) -> Result<Option<Export<Args, Results>>, LoadError>
where
    Args: ComponentNamedList + Lower,
    Results: ComponentNamedList + Lift,
{
    let Some(name) = exports.iter().find(|name| is_version_of(name, interface, SERIES)) else { return Ok(None) };
    let wrong = |source: wasmtime::Error| LoadError::WrongType { interface: (*name).into(), source: source.into() };
    Export::find(component, name, function).map(Some).map_err(wrong)
}

fn is_granted(import: &str) -> bool {
    GRANTED.iter().any(|(interface, series)| is_version_of(import, interface, series))
}

/// Whether `name` is `interface@` and a released version of `series`.
fn is_version_of(name: &str, interface: &str, series: &str) -> bool {
    let version = name.strip_prefix(interface).and_then(|rest| rest.strip_prefix('@'));
    version.is_some_and(|version| version.starts_with(series) && !version.contains('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_exact_but_for_the_patch() {
        for good in ["wasi:io/streams@0.2.0", "wasi:io/streams@0.2.99", "sandmill:plugin/log@0.1.0", "wasi:random/insecure@0.2.3"]
        {
            assert!(is_granted(good), "{good}");
        }
        for bad in [
            "wasi:io/streams",
            "wasi:io/streams@0.3.0",
            "wasi:io/streams@0.2.0-rc-2023-10-18",
            "wasi:io/streams2@0.2.0",
            "wasi:sockets/tcp@0.2.0",
            "wasi:http/types@0.2.0",
            "sandmill:plugin/models@0.1.0",
            "sandmill:plugin/log@0.2.0",
            "env",
            "",
        ] {
            assert!(!is_granted(bad), "{bad}");
        }
    }
}
