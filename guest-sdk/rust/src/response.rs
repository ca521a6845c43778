//! Making a response. The host frames it: lengths and dates are not set here.

use serde::Serialize;

use crate::{Error, Header, Response};

impl Response {
    /// 200 with `value` as JSON.
    ///
    /// # Errors
    /// [`Error::internal`] if `value` has no form in JSON, such as a map whose keys are no strings.
    pub fn json(value: &impl Serialize) -> Result<Self, Error> {
        let body = serde_json::to_vec(value).map_err(Error::internal)?;
        Ok(Self::bytes("application/json", body))
    }

    /// 200 with a text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::bytes("text/plain; charset=utf-8", text.into())
    }

    /// 200 with a body of this media type. A `Vec` is moved, not copied.
    pub fn bytes(content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, headers: Vec::new(), body: body.into() }.header("content-type", content_type)
    }

    /// The same with another status, 200 or above.
    #[must_use]
    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// The same with one more header; the name is made lower case.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push(Header { name: name.to_ascii_lowercase(), value: value.as_ref().to_vec() });
        self
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::ErrorKind;

    #[test]
    fn a_response_carries_its_type_status_and_headers() {
        let response = Response::json(&[1, 2]).unwrap().status(201).header("X-Model", "digits");
        assert_eq!((response.status, response.body.as_slice()), (201, &b"[1,2]"[..]));
        let headers: Vec<_> = response.headers.iter().map(|header| (header.name.as_str(), header.value.as_slice())).collect();
        assert_eq!(headers, [("content-type", &b"application/json"[..]), ("x-model", b"digits")]);
    }

    #[test]
    fn what_has_no_form_in_json_is_the_plugins_fault() {
        let error = Response::json(&HashMap::from([((1, 2), 3)])).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Internal);
    }
}
