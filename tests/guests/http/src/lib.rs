//! A guest that sends requests. Each line of the body says one thing to do; the answer has a line for each.
//!
//! - `get URL`: the status and the body.
//! - `brief URL MILLIS`: the same, with so much time for the first byte and between bytes.
//! - `follow URL`: the same, for where the response's `location` leads.
//! - `hold URL`: the status; the response stays open until all lines are done.
//! - `keep URL`: the status; the response stays open as long as the instance.
//! - `read`: the body of what is kept.
//! - `post URL BYTES`: the status and the body, for a request with a body so long.
//! - `connect URL`: as `get`, with that method.
//! - `set BYTES`: which of a request's parts can be set to texts so long.
#![allow(clippy::needless_pass_by_value, reason = "what the host hands over is the plugin's own")]

use std::cell::RefCell;

use sandmill_plugin::{Error, Request, Response};
use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingBody, IncomingResponse, Method, OutgoingBody, OutgoingRequest, RequestOptions, Scheme,
    http_error_code,
};
use wasip2::io::streams::StreamError;

thread_local! {
    static KEPT: RefCell<Option<IncomingResponse>> = const { RefCell::new(None) };
}

fn preprocess(request: Request) -> Result<Response, Error> {
    let body = String::from_utf8_lossy(&request.body);
    let mut held = Vec::new();
    let mut answers = Vec::new();
    for line in body.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let answer = match words[..] {
            ["get", url] => send(Method::Get, url, 0).and_then(whole),
            ["connect", url] => send(Method::Connect, url, 0).and_then(whole),
            ["brief", url, millis] => {
                let (options, nanos) = (RequestOptions::new(), Some(number(millis)? as u64 * 1_000_000));
                let _ = options.set_first_byte_timeout(nanos).and_then(|()| options.set_between_bytes_timeout(nanos));
                send_with(Method::Get, url, 0, Some(options)).and_then(whole)
            }
            ["follow", url] => follow(url),
            ["hold", url] => send(Method::Get, url, 0).map(|response| {
                let status = response.status();
                held.push(response);
                status.to_string()
            }),
            ["keep", url] => send(Method::Get, url, 0).map(|response| {
                let status = response.status();
                KEPT.set(Some(response));
                status.to_string()
            }),
            ["read"] => KEPT.take().ok_or(ErrorCode::LoopDetected).and_then(whole),
            ["post", url, bytes] => send(Method::Post, url, number(bytes)?).and_then(whole),
            ["set", bytes] => Ok(set(number(bytes)?)),
            _ => return Err(Error::invalid_input(line)),
        };
        answers.push(answer.unwrap_or_else(|code| format!("error {code:?}")));
    }
    Ok(Response::text(answers.join("\n")))
}

fn number(text: &str) -> Result<usize, Error> {
    text.parse().map_err(|_| Error::invalid_input("no number"))
}

fn send(method: Method, url: &str, bytes: usize) -> Result<IncomingResponse, ErrorCode> {
    send_with(method, url, bytes, None)
}

fn send_with(method: Method, url: &str, bytes: usize, options: Option<RequestOptions>) -> Result<IncomingResponse, ErrorCode> {
    let (scheme, rest) = url.split_once("://").ok_or(ErrorCode::LoopDetected)?;
    let (authority, path) = rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash));
    let request = OutgoingRequest::new(Fields::new());
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    let set = request.set_scheme(Some(&scheme)).and_then(|()| request.set_authority(Some(authority)));
    set.and_then(|()| request.set_path_with_query(Some(path))).map_err(|()| ErrorCode::HttpRequestUriInvalid)?;
    request.set_method(&method).map_err(|()| ErrorCode::HttpRequestMethodInvalid)?;
    let body = if bytes > 0 { request.body().ok() } else { None };
    let response = handle(request, options)?;
    if let Some(body) = body {
        upload(body, bytes);
    }
    response.subscribe().block();
    response.get().and_then(Result::ok).ok_or(ErrorCode::LoopDetected)?
}

/// What goes wrong here is told by the response.
fn upload(body: OutgoingBody, bytes: usize) {
    const PIECE: [u8; 4096] = [b'x'; 4096];
    if let Ok(stream) = body.write() {
        let mut left = bytes;
        while left > 0 && stream.blocking_write_and_flush(&PIECE[..left.min(PIECE.len())]).is_ok() {
            left -= left.min(PIECE.len());
        }
    }
    let _ = OutgoingBody::finish(body, None);
}

fn whole(response: IncomingResponse) -> Result<String, ErrorCode> {
    let body: IncomingBody = response.consume().map_err(|()| ErrorCode::LoopDetected)?;
    let stream = body.stream().map_err(|()| ErrorCode::LoopDetected)?;
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(1 << 16) {
            Ok(more) => bytes.extend(more),
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(error)) => {
                return Err(http_error_code(&error).unwrap_or(ErrorCode::InternalError(None)));
            }
        }
    }
    Ok(format!("{} {}", response.status(), String::from_utf8_lossy(&bytes)))
}

fn follow(url: &str) -> Result<String, ErrorCode> {
    let response = send(Method::Get, url, 0)?;
    let location = response.headers().get("location").pop().ok_or(ErrorCode::LoopDetected)?;
    let next = send(Method::Get, &String::from_utf8_lossy(&location), 0).and_then(whole);
    Ok(format!("{} then {}", response.status(), next.unwrap_or_else(|code| format!("error {code:?}"))))
}

fn set(bytes: usize) -> String {
    let request = OutgoingRequest::new(Fields::new());
    let text = "a".repeat(bytes);
    let method = request.set_method(&Method::Other(text.clone())).is_ok();
    let scheme = request.set_scheme(Some(&Scheme::Other(text.clone()))).is_ok();
    let authority = request.set_authority(Some(&text)).is_ok();
    let path = request.set_path_with_query(Some(&format!("/{text}"))).is_ok();
    let header = Fields::new().set("x", &[text.into_bytes()]).is_ok();
    format!("method {method} scheme {scheme} authority {authority} path {path} header {header}")
}

sandmill_plugin::export!(preprocess = preprocess);
