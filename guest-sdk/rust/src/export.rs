//! The macro that makes a component of plain functions, and the little that stands between both.

/// Exports functions as the plugin: `preprocess`, `postprocess` or both, or else `handler`; any of them with `init`.
///
/// - `preprocess` takes a [`Request`](crate::Request) and gives what turns into [`Prepared`](crate::Prepared): a
///   [`Tensor`](crate::Tensor), an array or `Vec` of them, a [`Response`](crate::Response), or `Prepared` itself.
/// - `postprocess` takes a [`RequestHead`](crate::RequestHead) and the outputs, a `Vec<Tensor>` in the order of the model's
///   signature, and gives a [`Response`](crate::Response).
/// - `handler` takes a [`Request`](crate::Request) and gives a [`Response`](crate::Response); it runs models through
///   [`models`](crate::models).
///
/// These give a `Result` whose error turns into [`Error`](crate::Error). The component exports what is named here, and
/// always `init`: besides running the author's, it readies the memory that requests allocate from.
///
/// # `init`
///
/// - `init` takes an [`Init`](crate::Init), the function's settings and assets, and gives `Result<(), E>`, where `E` is
///   anything that displays.
///
/// It runs once, when the function is loaded, and the host keeps the memory that it leaves: every request starts from that
/// memory, and none sees what another one wrote. So what `init` builds (tables, tokenizers, parsed files) costs no request
/// anything; it is kept in a `static` [`OnceLock`](std::sync::OnceLock). Where the host cannot keep memory, it calls `init`
/// in each request before anything else, and the same code works, only slower.
///
/// - Its error, or its panic, refuses the deployment: the message is for the person who deploys.
/// - Clocks and secure randomness refuse to work in it: all requests would share the one value.
/// - Secret settings are not there, since what `init` leaves is stored; a request reads them with
///   [`config::get`](crate::config::get).
///
/// The page of [the crate](crate#work-that-is-done-once) has an example.
///
/// # What does not compile
///
/// `init` alone, as nothing would answer requests:
///
/// ```compile_fail
/// fn init(_: sandmill_plugin::Init) -> Result<(), String> {
///     Ok(())
/// }
///
/// sandmill_plugin::export!(init = init);
/// ```
///
/// `handler` with `preprocess` or `postprocess`, as it takes the whole of a request:
///
/// ```compile_fail
/// # use sandmill_plugin::{Error, Request, Response};
/// fn answer(_: Request) -> Result<Response, Error> {
///     Ok(Response::text("hi"))
/// }
///
/// sandmill_plugin::export!(preprocess = answer, handler = answer);
/// ```
#[macro_export]
macro_rules! export {
    ($($interface:ident = $function:path),+ $(,)?) => {
        $crate::__export!([] [] [] [] $($interface $function,)+);
    };
}

// First each function is put into its slot: `[init] [preprocess] [postprocess] [handler]`. Then the slots are looked at.
#[doc(hidden)]
#[macro_export]
#[rustfmt::skip]
macro_rules! __export {
    ([] $pre:tt $post:tt $handler:tt init $function:path, $($rest:tt)*) => {
        $crate::__export!([$function] $pre $post $handler $($rest)*);
    };
    ($init:tt [] $post:tt $handler:tt preprocess $function:path, $($rest:tt)*) => {
        $crate::__export!($init [$function] $post $handler $($rest)*);
    };
    ($init:tt $pre:tt [] $handler:tt postprocess $function:path, $($rest:tt)*) => {
        $crate::__export!($init $pre [$function] $handler $($rest)*);
    };
    ($init:tt $pre:tt $post:tt [] handler $function:path, $($rest:tt)*) => {
        $crate::__export!($init $pre $post [$function] $($rest)*);
    };
    ($init:tt $pre:tt $post:tt $handler:tt $other:ident $function:path, $($rest:tt)*) => {
        ::core::compile_error!(::core::concat!(
            "a plugin exports `init`, `preprocess`, `postprocess` and `handler`, each at most once: not `",
            ::core::stringify!($other),
            "`"
        ));
    };
    ($init:tt [] [] []) => {
        ::core::compile_error!("`init` alone answers no request: name `preprocess`, `postprocess` or `handler`, too");
    };
    ($init:tt [] [] [$handler:path]) => {
        $crate::__export_init!($init);
        $crate::__export_handler!($handler);
    };
    ($init:tt [$($pre:path)?] [$($post:path)?] []) => {
        $crate::__export_init!($init);
        $($crate::__export_preprocess!($pre);)?
        $($crate::__export_postprocess!($post);)?
    };
    ($init:tt $pre:tt $post:tt $handler:tt) => {
        ::core::compile_error!("`handler` takes the whole of a request: it goes with neither `preprocess` nor `postprocess`");
    };
}

// Natively the functions are only checked, and kept from looking unused: the exports' names hold an `@`, which native
// linkers take for a version.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_init {
    ([]) => {
        $crate::__export_init!([$crate::glue::no_init]);
    };
    ([$function:path]) => {
        const _: () = {
            struct Plugin;

            impl $crate::glue::init::Guest for Plugin {
                fn init(
                    config: ::std::vec::Vec<(::std::string::String, ::std::string::String)>,
                    assets: ::std::vec::Vec<$crate::Asset>,
                ) -> ::core::result::Result<(), ::std::string::String> {
                    $crate::glue::report_panics();
                    $crate::glue::initialize($function, $crate::Init { config, assets })
                }
            }

            #[cfg(target_family = "wasm")]
    $crate::glue::initializer::export!(Plugin with_types_in $crate::glue::initializer);
            #[cfg(not(target_family = "wasm"))]
            let _ = <Plugin as $crate::glue::init::Guest>::init;
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __export_preprocess {
    ($function:path) => {
        const _: () = {
            struct Plugin;

            impl $crate::glue::preprocess::Guest for Plugin {
                fn preprocess(request: $crate::Request) -> ::core::result::Result<$crate::Prepared, $crate::Error> {
                    $crate::glue::finish($function(request))
                }
            }

            #[cfg(target_family = "wasm")]
    $crate::glue::preprocessor::export!(Plugin with_types_in $crate::glue::preprocessor);
            #[cfg(not(target_family = "wasm"))]
            let _ = <Plugin as $crate::glue::preprocess::Guest>::preprocess;
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __export_postprocess {
    ($function:path) => {
        const _: () = {
            struct Plugin;

            impl $crate::glue::postprocess::Guest for Plugin {
                fn postprocess(
                    request: $crate::RequestHead,
                    outputs: ::std::vec::Vec<$crate::Tensor>,
                ) -> ::core::result::Result<$crate::Response, $crate::Error> {
                    $crate::glue::finish($function(request, outputs))
                }
            }

            #[cfg(target_family = "wasm")]
    $crate::glue::postprocessor::export!(Plugin with_types_in $crate::glue::postprocessor);
            #[cfg(not(target_family = "wasm"))]
            let _ = <Plugin as $crate::glue::postprocess::Guest>::postprocess;
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __export_handler {
    ($function:path) => {
        const _: () = {
            struct Plugin;

            impl $crate::glue::handler::Guest for Plugin {
                fn handle(request: $crate::Request) -> ::core::result::Result<$crate::Response, $crate::Error> {
                    $crate::glue::finish($function(request))
                }
            }

            #[cfg(target_family = "wasm")]
    $crate::glue::request_handler::export!(Plugin with_types_in $crate::glue::request_handler);
            #[cfg(not(target_family = "wasm"))]
            let _ = <Plugin as $crate::glue::handler::Guest>::handle;
        };
    };
}

/// What the macro's expansion needs; not for authors.
pub mod glue {
    use std::convert::Infallible;
    use std::fmt::Display;
    use std::hint::black_box;

    pub use crate::bindings::initializer::exports::sandmill::plugin::init;
    pub use crate::bindings::postprocessor::exports::sandmill::plugin::postprocess;
    pub use crate::bindings::preprocessor::exports::sandmill::plugin::preprocess;
    pub use crate::bindings::request_handler::exports::sandmill::plugin::handler;
    pub use crate::bindings::{initializer, postprocessor, preprocessor, request_handler};
    use crate::{Error, Init};

    /// Room for a small image and its tensor.
    const HEAP_BYTES: usize = 1 << 20;

    /// Turns what the author's function gave into what the contract asks for.
    ///
    /// # Errors
    /// The function's own.
    pub fn finish<T, U: From<T>, E: Into<Error>>(result: Result<T, E>) -> Result<U, Error> {
        result.map(U::from).map_err(Into::into)
    }

    /// Runs the author's `init` and readies the memory for what follows it.
    ///
    /// # Errors
    /// The function's own, in words.
    pub fn initialize<E: Display>(function: impl FnOnce(Init) -> Result<(), E>, start: Init) -> Result<(), String> {
        function(start).map_err(|error| error.to_string())?;
        grow_heap();
        Ok(())
    }

    /// The `init` of a plugin whose author has none.
    ///
    /// # Errors
    /// None.
    #[allow(clippy::needless_pass_by_value, reason = "what an author's takes")]
    pub fn no_init(_: Init) -> Result<(), Infallible> {
        Ok(())
    }

    /// Grows memory now, so that requests need not: growing costs a fresh instance several microseconds, more so on several
    /// threads. What is freed stays with the allocator, since Wasm's memory never shrinks. After the author's `init`, which
    /// would use some of it up; untouched as it is, it costs nothing.
    fn grow_heap() {
        drop(black_box(Vec::<u8>::with_capacity(HEAP_BYTES)));
    }

    /// Sends a panic's message to the log: all that the host sees of a panic itself is an unreachable instruction. Set once,
    /// by `init`, which comes before any request.
    pub fn report_panics() {
        #[cfg(target_family = "wasm")]
        std::panic::set_hook(Box::new(|panic| crate::log::error(panic)));
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn the_authors_init_sees_the_start_and_its_failure_comes_back_in_words() {
            let start = || crate::testing::init(&[("top", "3")], &[]);
            let parse = |start: Init| start.setting("top").unwrap_or_default().parse::<u8>().map(|_| ());
            assert_eq!(initialize(parse, start()), Ok(()));
            let fail = |start: Init| start.asset("labels.txt").map(|_| ());
            assert_eq!(initialize(fail, start()), Err("there is no asset `labels.txt` among []".into()));
            assert_eq!(initialize(no_init, start()), Ok(()));
        }
    }
}
