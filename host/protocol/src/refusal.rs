//! Why a request is refused, on its way to becoming a [`Fault`]: one type for `?` to gather the errors of all parts.

use jiter::JiterError;
use sandmill_domain::{Code, Fault, Mismatch};

/// A fault in the making.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The JSON is none.
    Malformed(JiterError),
    /// It says what does not fit, and most often of which tensor.
    Said(Fault),
}

impl Refusal {
    /// The same, saying which tensor it is about.
    pub(crate) fn of_tensor(self, name: &str) -> Self {
        let mut fault = Fault::from(self);
        fault.message = format!("tensor `{name}`: {}", fault.message);
        Self::Said(fault)
    }
}

/// The caller's mistake, in words for the caller.
pub(crate) fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::Said(Fault::new(Code::InvalidInput, message))
}

/// A part of the protocol that would change what the answer means, and that this host does not speak.
pub(crate) fn unsupported(message: impl Into<String>) -> Refusal {
    Refusal::Said(Fault::new(Code::Unsupported, message))
}

/// The start of text that came from the caller, short enough for a message.
pub(crate) fn excerpt(text: &str) -> String {
    text.chars().take(100).collect()
}

impl From<JiterError> for Refusal {
    fn from(error: JiterError) -> Self {
        Self::Malformed(error)
    }
}

impl From<Mismatch> for Refusal {
    fn from(mismatch: Mismatch) -> Self {
        invalid(mismatch.to_string())
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::Said(fault)
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Malformed(error) => Self::new(Code::InvalidInput, format!("malformed request: {error}")),
            Refusal::Said(fault) => fault,
        }
    }
}
