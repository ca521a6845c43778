//! One try's failure, sorted by what is known of its effect. The only place that looks into the client's errors.

use std::error::Error;
use std::io;

use object_store::client::{HttpError, HttpErrorKind};

use super::error::StoreError;

/// The longest text of a client's that is passed on: servers send pages.
const CAUSE_CHARS_MAX: usize = 400;

/// Why one try failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// There is no such object.
    Missing,
    /// There is one already.
    Exists,
    /// Not without other rights.
    Refused(String),
    /// Not without more space.
    Full(String),
    /// The store has no such operation.
    Unsupported(String),
    /// The request did not leave.
    Unsent(String),
    /// Perhaps it happened.
    Doubtful(String),
    /// The system reports an error of the medium: what it says of the object afterwards proves nothing.
    Broken(String),
    /// More bytes than may be read.
    TooLarge(u64, u64),
}

impl Failure {
    /// The same may work in a moment.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self, Self::Unsent(_) | Self::Doubtful(_))
    }

    /// It did not happen, and will not.
    pub(crate) fn is_final(&self) -> bool {
        !self.is_passing() && *self != Self::Exists
    }

    /// For an operation that may be repeated at will: a read, or a deletion.
    pub(crate) fn into_error(self, object: String) -> StoreError {
        match self {
            Self::Missing => StoreError::Missing { object },
            Self::Exists => StoreError::Unfaithful { object, what: "it answers a read with a conflict".into() },
            Self::Refused(cause) => StoreError::Refused { object, cause },
            Self::Full(cause) => StoreError::Full { object, cause },
            Self::Unsupported(what) => StoreError::NotConditional { store: object, what },
            Self::Unsent(cause) | Self::Doubtful(cause) | Self::Broken(cause) => StoreError::Unreachable { object, cause },
            Self::TooLarge(len, max) => StoreError::TooLarge { object, len, max },
        }
    }
}

impl From<object_store::Error> for Failure {
    fn from(error: object_store::Error) -> Self {
        use object_store::Error as Client;
        let text = tell(&error);
        match &error {
            Client::NotFound { .. } => Self::Missing,
            Client::AlreadyExists { .. } | Client::Precondition { .. } => Self::Exists,
            Client::PermissionDenied { .. } | Client::Unauthenticated { .. } => Self::Refused(text),
            Client::NotSupported { .. } | Client::NotImplemented { .. } => Self::Unsupported(text),
            error => sort_chain(error, text),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        sort_chain(&error, tell(&error))
    }
}

/// By the first error below that says more.
fn sort_chain(error: &(dyn Error + 'static), text: String) -> Failure {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(http) = error.downcast_ref::<HttpError>() {
            return if http.kind() == HttpErrorKind::Connect { Failure::Unsent(text) } else { Failure::Doubtful(text) };
        }
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return sort_io(io, text);
        }
        next = error.source();
    }
    Failure::Doubtful(text)
}

fn sort_io(error: &io::Error, text: String) -> Failure {
    use io::ErrorKind::{
        FileTooLarge, NotADirectory, NotFound, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull,
    };
    match error.kind() {
        StorageFull | QuotaExceeded | FileTooLarge => Failure::Full(text),
        PermissionDenied | ReadOnlyFilesystem | NotADirectory => Failure::Refused(text),
        NotFound => Failure::Missing,
        _ => Failure::Broken(text),
    }
}

/// Each cause once, on one line.
fn tell(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = error.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(CAUSE_CHARS_MAX).collect()
}
