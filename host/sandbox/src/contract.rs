//! What a component may import and must export, told by names and types alone. Runs no guest.

use wasmtime::Engine;
use wasmtime::component::{Component, ComponentNamedList, Lift, Lower};

use crate::bindings::{
    Export, HandleArgs, HandleResults, InitArgs, InitResults, PostprocessArgs, PostprocessResults, PreprocessArgs,
    PreprocessResults,
};
use crate::job::{Names, Refusal};
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

/// What a handler may import besides.
const MODELS: &str = "sandmill:plugin/models";

/// Interfaces that a plugin may import if it is granted requests to other hosts.
const GRANTED_WITH_HTTP: [(&str, &str); 2] = [("wasi:http/types", "0.2."), ("wasi:http/outgoing-handler", "0.2.")];

pub(crate) const INIT: &str = "sandmill:plugin/init";
const PREPROCESS: &str = "sandmill:plugin/preprocess";
const POSTPROCESS: &str = "sandmill:plugin/postprocess";
const HANDLER: &str = "sandmill:plugin/handler";
/// The series of the contract's versions that this host runs.
const SERIES: &str = "0.1.";

/// What is granted by name, with the interfaces that it is for.
const GRANTS: [(&str, &[&str]); 6] = [
    ("wall_clock", &["wasi:clocks/wall-clock"]),
    ("monotonic_clock", &["wasi:clocks/monotonic-clock"]),
    ("randomness", &["wasi:random/random"]),
    ("environment", &["wasi:cli/environment"]),
    ("asset_files", &["wasi:filesystem/types", "wasi:filesystem/preopens"]),
    ("http", &["wasi:http/types", "wasi:http/outgoing-handler"]),
];

/// What starts an instance.
pub(crate) type Init = Export<InitArgs<'static>, InitResults>;

/// What a plugin does: at least one of `preprocess`, `postprocess` and `handle`.
pub(crate) struct Shape {
    pub(crate) init: Option<Init>,
    pub(crate) preprocess: Option<Export<PreprocessArgs<'static>, PreprocessResults>>,
    pub(crate) postprocess: Option<Export<PostprocessArgs<'static>, PostprocessResults>>,
    pub(crate) handle: Option<Export<HandleArgs<'static>, HandleResults>>,
}

/// Whether the names of what a component imports and exports keep to the contract; `http` says whether it may import what sends
/// requests.
///
/// # Errors
/// All that it imports without a grant, or that it exports nothing to call or too much.
pub(crate) fn check_names(imports: &[&str], exports: &[&str], http: bool) -> Result<(), Refusal> {
    let has = |interface| exports.iter().any(|name| is_version_of(name, interface, SERIES));
    let handles = has(HANDLER);
    let granted = |name: &str| is_granted(name, http) || (handles && is_version_of(name, MODELS, SERIES));
    let names = Names::of(imports.iter().copied().filter(|name| !granted(name)));
    if !names.first.is_empty() {
        return Err(Refusal::Imports { names });
    }
    match (has(PREPROCESS) || has(POSTPROCESS), handles) {
        (false, false) => Err(Refusal::NothingExported { exports: Names::of(exports.iter().copied()) }),
        (true, true) => Err(Refusal::TwoShapes),
        _ => Ok(()),
    }
}

/// The shape of a component whose names are right.
///
/// # Errors
/// An export of another type than the contract's.
pub(crate) fn shape(engine: &Engine, component: &Component) -> Result<Shape, LoadError> {
    let ty = component.component_type();
    let exports: Vec<&str> = ty.exports(engine).map(|(name, _)| name).collect();
    Ok(Shape {
        init: find(component, &exports, INIT, "init")?,
        preprocess: find(component, &exports, PREPROCESS, "preprocess")?,
        postprocess: find(component, &exports, POSTPROCESS, "postprocess")?,
        handle: find(component, &exports, HANDLER, "handle")?,
    })
}

/// The function that starts an instance, if the component has one of the right type.
///
/// # Errors
/// If its type is another.
pub(crate) fn find_init(engine: &Engine, component: &Component) -> Result<Option<Init>, LoadError> {
    let ty = component.component_type();
    let exports: Vec<&str> = ty.exports(engine).map(|(name, _)| name).collect();
    find(component, &exports, INIT, "init")
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

/// The grants without which something of these imports is refused or empty, by their names in `function.toml`.
pub(crate) fn grants_for(imports: &[String]) -> Vec<&'static str> {
    let is_for = |interfaces: &[&str]| {
        imports.iter().any(|import| interfaces.iter().any(|interface| is_version_of(import, interface, "0.2.")))
    };
    GRANTS.iter().filter(|(_, interfaces)| is_for(interfaces)).map(|(grant, _)| *grant).collect()
}

fn is_granted(import: &str, http: bool) -> bool {
    let with_http = GRANTED_WITH_HTTP.iter().filter(|_| http);
    GRANTED.iter().chain(with_http).any(|(interface, series)| is_version_of(import, interface, series))
}

/// Whether an export is of the interface that starts an instance.
pub(crate) fn is_init(export: &str) -> bool {
    is_version_of(export, INIT, SERIES)
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
            assert!(is_granted(good, false), "{good}");
        }
        for bad in [
            "wasi:io/streams",
            "wasi:io/streams@0.3.0",
            "wasi:io/streams@0.2.0-rc-2023-10-18",
            "wasi:io/streams2@0.2.0",
            "wasi:sockets/tcp@0.2.0",
            "wasi:http/incoming-handler@0.2.0",
            "sandmill:plugin/models@0.1.0",
            "sandmill:plugin/log@0.2.0",
            "env",
            "",
        ] {
            assert!(!is_granted(bad, true), "{bad}");
        }
        assert!(is_granted("wasi:http/types@0.2.3", true) && !is_granted("wasi:http/types@0.2.3", false));
    }

    #[test]
    fn imports_tell_the_grants_that_they_are_for() {
        let of = |imports: &[&str]| grants_for(&imports.iter().map(|import| (*import).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["sandmill:plugin/log@0.1.0", "wasi:io/streams@0.2.0", "wasi:random/insecure@0.2.0"]), [""; 0]);
        let imports = ["wasi:http/types@0.2.6", "wasi:filesystem/preopens@0.2.6", "wasi:filesystem/types@0.2.0"];
        assert_eq!(of(&imports), ["asset_files", "http"]);
        let imports = ["wasi:random/random@0.2.0", "wasi:clocks/wall-clock@0.2.0", "wasi:cli/environment@0.2.0"];
        assert_eq!(of(&imports), ["wall_clock", "randomness", "environment"]);
    }
}
