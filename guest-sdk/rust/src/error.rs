//! A plugin's refusals: what went wrong, in words, and whose fault it is. The host makes HTTP statuses of them.
#![allow(clippy::needless_pass_by_value, reason = "by value, they fit `map_err(Error::invalid_input)`")]

use std::fmt;

use crate::ErrorKind;

/// A refusal of the plugin's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Decides the HTTP status.
    pub kind: ErrorKind,
    /// For the client; for the log if the kind is [`ErrorKind::Internal`].
    pub message: String,
}

impl Error {
    /// 400: the request is malformed. The message goes to the client.
    pub fn invalid_input(message: impl fmt::Display) -> Self {
        Self { kind: ErrorKind::InvalidInput, message: message.to_string() }
    }

    /// 404: what the path or the query names is not there. The message goes to the client.
    pub fn not_found(message: impl fmt::Display) -> Self {
        Self { kind: ErrorKind::NotFound, message: message.to_string() }
    }

    /// 415: a media type that the plugin does not take. The message goes to the client.
    pub fn unsupported_media(message: impl fmt::Display) -> Self {
        Self { kind: ErrorKind::UnsupportedMedia, message: message.to_string() }
    }

    /// 422: well-formed, but it cannot be processed. The message goes to the client.
    pub fn unprocessable(message: impl fmt::Display) -> Self {
        Self { kind: ErrorKind::Unprocessable, message: message.to_string() }
    }

    /// 500: the plugin itself failed. The message goes to the log.
    pub fn internal(message: impl fmt::Display) -> Self {
        Self { kind: ErrorKind::Internal, message: message.to_string() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// JSON that cannot be read is the caller's fault.
impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::invalid_input(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_that_cannot_be_read_is_invalid_input() {
        fn read(json: &str) -> Result<u8, Error> {
            Ok(serde_json::from_str(json)?)
        }
        assert_eq!(read("7"), Ok(7));
        assert_eq!(read("300"), Err(Error::invalid_input("invalid value: integer `300`, expected u8 at line 1 column 3")));
    }
}
