//! What goes wrong behind the control plane, as those are told who asked it: what was wrong with what they sent, and of the rest that
//! it is the host's own matter. Where the host keeps things is for its log alone.

use std::io;

use anyhow::anyhow;
use sandmill_catalog::store::{ChangeError, Refusal, Revision, StoreError};
use sandmill_catalog::{ArchiveError, ReadError};
use sandmill_domain::control::Refused;
use sandmill_domain::{Code, Fault};

use crate::deploy::SampleFailed;
use crate::loaded_model::NotKept;

/// There is another state than the one that it rests on.
pub(crate) fn newer(present: Revision) -> Refused {
    let message = format!("it has changed meanwhile, and is at revision {present}: look at it, and ask again");
    Refused { revision: Some(present.0), ..Fault::new(Code::Conflict, message).into() }
}

/// Why a change was not made.
pub(crate) fn refused(error: ChangeError) -> Refused {
    match error {
        ChangeError::Refused(refusal) => refusal_fault(&refusal).into(),
        ChangeError::Store(StoreError::Conflict { present, .. }) => newer(present),
        ChangeError::Store(error) => store_fault(error).into(),
    }
}

pub(crate) fn refusal_fault(refusal: &Refusal) -> Fault {
    let code = match refusal {
        Refusal::Unknown(_) | Refusal::NotKept { .. } => Code::NotFound,
        Refusal::TooMany { .. } | Refusal::Quota(_) => Code::TooManyRequests,
        Refusal::TooLong { .. } | Refusal::Malformed { .. } => Code::InvalidInput,
        Refusal::Taken(_)
        | Refusal::Removed(_)
        | Refusal::NotNext { .. }
        | Refusal::Current { .. }
        | Refusal::Pinned { .. }
        | Refusal::LastKey
        | Refusal::Condemned(_)
        | Refusal::InUse(_)
        | Refusal::OtherBytes(_) => Code::Conflict,
    };
    Fault::new(code, refusal.to_string())
}

/// What the client can do about it; where the store is and what it said are for the log alone.
pub(crate) fn store_fault(error: StoreError) -> Fault {
    let (code, message) = match &error {
        StoreError::Unreachable { .. } => (Code::NotReady, "the store does not answer: nothing was changed, try again"),
        StoreError::Unknown { .. } => {
            (Code::NotReady, "the store broke off: nobody can tell whether it was done; look before you try again")
        }
        StoreError::Full { .. } => (Code::StorageFull, "the store is full: nothing was changed"),
        StoreError::TooLarge { .. } => (Code::TooLarge, "it is larger than the store takes"),
        _ => (Code::Internal, "the store failed: nothing was changed; the host's log says why"),
    };
    Fault::new(code, message).because(error)
}

/// A function's folder that is not as it should be.
pub(crate) fn read_fault(error: &ReadError) -> Fault {
    Fault::new(Code::Unprocessable, error.within_folder())
}

/// Why a plugin, a model or a function that was sent cannot be loaded.
pub(crate) fn load_fault(error: &anyhow::Error) -> Fault {
    if error.chain().any(|cause| cause.is::<NotKept>()) {
        return local_fault(error);
    }
    let is_passing = error.chain().any(|cause| {
        let model = cause.downcast_ref::<sandmill_engine::LoadError>().is_some_and(sandmill_engine::LoadError::is_passing);
        let sample = cause.downcast_ref::<SampleFailed>().is_some_and(SampleFailed::is_passing);
        model
            || sample
            || cause.downcast_ref::<sandmill_sandbox::LoadError>().is_some_and(sandmill_sandbox::LoadError::is_passing)
    });
    Fault::new(if is_passing { Code::NotReady } else { Code::Unprocessable }, format!("{error:#}"))
}

/// An archive that is not as it should be, or could not be unpacked.
pub(crate) fn archive_fault(error: ArchiveError) -> Fault {
    match &error {
        ArchiveError::File { .. } => local_fault(&anyhow!(error)),
        ArchiveError::TooLarge { .. } => Fault::new(Code::TooLarge, error.to_string()),
        ArchiveError::Broken(_) | ArchiveError::Entry { .. } => Fault::new(Code::InvalidInput, error.to_string()),
    }
}

/// This host's own disk.
pub(crate) fn local_fault(error: &anyhow::Error) -> Fault {
    let is_full = error.chain().any(|cause| {
        let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        matches!(kind, Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge))
    });
    match is_full {
        true => Fault::new(Code::StorageFull, "this host's disk is full: nothing was changed").because(format!("{error:#}")),
        false => Fault::new(Code::Internal, "this host's disk failed: nothing was changed").because(format!("{error:#}")),
    }
}
