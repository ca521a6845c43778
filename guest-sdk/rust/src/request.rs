//! Reading a request: its headers, and its body as JSON. What is not asked for is not looked at.

use std::ops::Deref;

use serde::Deserialize;

use crate::{Error, Request, RequestHead};

impl Request {
    /// The body, read as JSON; the media type is not looked at.
    ///
    /// # Errors
    /// [`Error::invalid_input`] that says what was expected where.
    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Error> {
        serde_json::from_slice(&self.body)
            .map_err(|error| Error::invalid_input(format_args!("the body is not the JSON that is expected: {error}")))
    }
}

/// A request has all that its head has.
impl Deref for Request {
    type Target = RequestHead;

    fn deref(&self) -> &RequestHead {
        &self.head
    }
}

impl RequestHead {
    /// The value of the first header of this name, in any case; none if there is none or it is not UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(&header.value).ok()
    }

    /// The media type of the body as it came, without its parameters: `text/html` of `text/html; charset=utf-8`.
    pub fn content_type(&self) -> Option<&str> {
        self.header("content-type")?.split(';').next().map(str::trim)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Header, testing};

    fn header(name: &str, value: &[u8]) -> Header {
        Header { name: name.into(), value: value.into() }
    }

    #[test]
    fn headers_are_found_in_any_case() {
        let mut request = testing::request("");
        assert_eq!(request.content_type(), None);
        request.head.headers = vec![header("content-type", b"text/html ; charset=utf-8"), header("x-blob", b"\xff")];
        assert_eq!(request.header("Content-Type"), Some("text/html ; charset=utf-8"));
        assert_eq!(request.content_type(), Some("text/html"));
        assert_eq!(request.header("x-blob"), None);
        assert_eq!(request.method, "POST");
    }

    #[test]
    fn json_may_borrow_from_the_body() {
        #[derive(Debug, Deserialize, PartialEq)]
        struct Input<'a> {
            text: &'a str,
        }
        assert_eq!(testing::request(r#"{"text":"hi"}"#).json(), Ok(Input { text: "hi" }));
        let error = testing::request("{}").json::<Input<'_>>().unwrap_err();
        assert_eq!(error.message, "the body is not the JSON that is expected: missing field `text` at line 1 column 2");
    }
}
