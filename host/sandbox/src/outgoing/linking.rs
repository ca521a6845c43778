//! The interfaces of `wasi:http` for a guest, as wasmtime has them but for four functions.

use wasmtime::component::{Linker, LinkerInstance, Resource};
use wasmtime_wasi::p2::bindings::io::error::Error as IoError;
use wasmtime_wasi_http::p2::bindings::http::outgoing_handler::Host as _;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, HostOutgoingRequest as _, Method};
use wasmtime_wasi_http::p2::types::{HostFutureIncomingResponse, HostOutgoingRequest};
use wasmtime_wasi_http::{Error, RequestOptions, WasiHttpView};
use wasmtime_wasi_io::IoView;

use crate::state::State;

/// A method of the guest's own; the longest that is registered, `UPDATEREDIRECTREF`, has 17.
const METHOD_BYTES_MAX: usize = 64;
/// A name of 253 bytes and a port, and some for what is refused later in better words.
const AUTHORITY_BYTES_MAX: usize = 512;

const TYPES: &str = "wasi:http/types@0.2.12";
const HANDLER: &str = "wasi:http/outgoing-handler@0.2.12";

/// Makes both interfaces known to a linker that allows shadowing.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
    link_bounded_texts(&mut linker.instance(TYPES)?)?;
    link_error_code(&mut linker.instance(TYPES)?)?;
    link_handle(&mut linker.instance(HANDLER)?)
}

/// A request's own texts are as short as they are in life: the host keeps them beside the guest's memory, as often as the guest
/// has handles. Of the others, wasmtime bounds all: a path to 64 KiB, a scheme to 64 bytes, headers as it is told.
fn link_bounded_texts(types: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    types.func_wrap(
        "[method]outgoing-request.set-method",
        |mut store, (request, method): (Resource<HostOutgoingRequest>, Method)| {
            let long = matches!(&method, Method::Other(text) if text.len() > METHOD_BYTES_MAX);
            Ok((if long { Err(()) } else { store.data_mut().http().set_method(request, method)? },))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-authority",
        |mut store, (request, authority): (Resource<HostOutgoingRequest>, Option<String>)| {
            let long = authority.as_ref().is_some_and(|text| text.len() > AUTHORITY_BYTES_MAX);
            Ok((if long { Err(()) } else { store.data_mut().http().set_authority(request, authority)? },))
        },
    )
}

/// wasmtime 48.0.8 finds none of the errors that its own streams of bodies give: it looks for `ErrorCode`, they hold `Error`.
fn link_error_code(types: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    types.func_wrap("http-error-code", |mut store, (error,): (Resource<IoError>,)| {
        let error = store.data_mut().table().get(&error)?;
        Ok((error.downcast_ref().and_then(of_body),))
    })
}

/// The code for what a body of ours fails with.
fn of_body(error: &Error) -> Option<ErrorCode> {
    match error {
        Error::HttpResponseBodySize(bytes) => Some(ErrorCode::HttpResponseBodySize(*bytes)),
        Error::HttpResponseIncomplete => Some(ErrorCode::HttpResponseIncomplete),
        Error::HttpResponseHeaderSectionSize(bytes) => Some(ErrorCode::HttpResponseTrailerSectionSize(*bytes)),
        Error::HttpProtocolError => Some(ErrorCode::HttpProtocolError),
        Error::ConnectionTerminated => Some(ErrorCode::ConnectionTerminated),
        Error::ConnectionReadTimeout => Some(ErrorCode::ConnectionReadTimeout),
        _ => None,
    }
}

/// Counts requests before anything is made of them.
fn link_handle(handler: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    type Args = (Resource<HostOutgoingRequest>, Option<Resource<RequestOptions>>);
    handler.func_wrap("handle", |mut store, (request, options): Args| {
        let state = store.data_mut();
        if !state.session().count() {
            state.table().delete(request)?;
            return Ok((Err(ErrorCode::ConnectionLimitReached),));
        }
        let handled: Result<Resource<HostFutureIncomingResponse>, ErrorCode> = match state.http().handle(request, options) {
            Ok(response) => Ok(response),
            // What is no code is a trap.
            Err(error) => Err(error.downcast()?),
        };
        Ok((handled,))
    })
}
