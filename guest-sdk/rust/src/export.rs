//! The macro that makes a component of plain functions, and the little that stands between both.

/// Exports functions as the plugin: `preprocess`, `postprocess`, or both.
///
/// - `preprocess` takes a [`Request`](crate::Request) and gives what turns into [`Prepared`](crate::Prepared): a
///   [`Tensor`](crate::Tensor), an array or `Vec` of them, a [`Response`](crate::Response), or `Prepared` itself.
/// - `postprocess` takes a [`RequestHead`](crate::RequestHead) and the outputs, a `Vec<Tensor>` in the order of the model's
///   signature, and gives a [`Response`](crate::Response).
///
/// Both give a `Result` whose error turns into [`Error`](crate::Error). The component exports what is named here and no more.
#[macro_export]
macro_rules! export {
    ($($interface:ident = $function:path),+ $(,)?) => {
        $($crate::__export!($interface $function);)+
    };
}

// Natively the functions are only checked, and kept from looking unused: the exports' names hold an `@`, which native
// linkers take for a version.
#[doc(hidden)]
#[macro_export]
#[rustfmt::skip]
macro_rules! __export {
    (preprocess $function:path) => {
        const _: () = {
            struct Plugin;

            impl $crate::glue::preprocess::Guest for Plugin {
                fn preprocess(request: $crate::Request) -> ::core::result::Result<$crate::Prepared, $crate::Error> {
                    $crate::glue::report_panics();
                    $crate::glue::finish($function(request))
                }
            }

            #[cfg(target_family = "wasm")]
            $crate::glue::preprocessor::export!(Plugin with_types_in $crate::glue::preprocessor);
            #[cfg(not(target_family = "wasm"))]
            let _ = <Plugin as $crate::glue::preprocess::Guest>::preprocess;
        };
    };
    (postprocess $function:path) => {
        const _: () = {
            struct Plugin;

            impl $crate::glue::postprocess::Guest for Plugin {
                fn postprocess(
                    request: $crate::RequestHead,
                    outputs: ::std::vec::Vec<$crate::Tensor>,
                ) -> ::core::result::Result<$crate::Response, $crate::Error> {
                    $crate::glue::report_panics();
                    $crate::glue::finish($function(request, outputs))
                }
            }

            #[cfg(target_family = "wasm")]
            $crate::glue::postprocessor::export!(Plugin with_types_in $crate::glue::postprocessor);
            #[cfg(not(target_family = "wasm"))]
            let _ = <Plugin as $crate::glue::postprocess::Guest>::postprocess;
        };
    };
    ($other:ident $function:path) => {
        ::core::compile_error!(::core::concat!(
            "a plugin exports `preprocess` and `postprocess`, not `",
            ::core::stringify!($other),
            "`"
        ));
    };
}

/// What the macro's expansion needs; not for authors.
pub mod glue {
    use crate::Error;
    pub use crate::bindings::postprocessor::exports::sandmill::plugin::postprocess;
    pub use crate::bindings::preprocessor::exports::sandmill::plugin::preprocess;
    pub use crate::bindings::{postprocessor, preprocessor};

    /// Turns what the author's function gave into what the contract asks for.
    ///
    /// # Errors
    /// The function's own.
    pub fn finish<T, U: From<T>, E: Into<Error>>(result: Result<T, E>) -> Result<U, Error> {
        result.map(U::from).map_err(Into::into)
    }

    /// Sends a panic's message to the log: all that the host sees of a panic itself is an unreachable instruction.
    pub fn report_panics() {
        #[cfg(target_family = "wasm")]
        std::panic::set_hook(Box::new(|panic| crate::log::error(panic)));
    }
}
