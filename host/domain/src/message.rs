//! HTTP messages as the rooms hand them on: whole, by value, free of any HTTP library's connection state.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

/// A header of a reply.
pub type Header = (HeaderName, HeaderValue);

/// A request without its body.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// What follows the function's name in the path, with its leading slash, percent-encoded; or empty.
    pub path_rest: String,
    /// What follows the question mark, percent-encoded.
    pub query: Option<String>,
    /// The headers as they came.
    pub headers: HeaderMap,
}

/// A request with its whole body.
#[derive(Clone, Debug)]
pub struct Request {
    /// All but the body.
    pub head: RequestHead,
    /// The body, within the function's `body_bytes_max`.
    pub body: Bytes,
}

/// A whole response.
#[derive(Clone, Debug)]
pub struct Reply {
    /// 200 or above.
    pub status: StatusCode,
    /// Without those that frame the message: the edge sets `content-length`, `date`, `connection`.
    pub headers: Vec<Header>,
    /// The body.
    pub body: Bytes,
}
