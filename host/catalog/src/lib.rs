//! What is served: function folders, read at start for the tenant that a host without others has; and the durable [`store`] of
//! tenants, what they uploaded and what they released.
//!
//! A folder is read whole before anything of it is believed: every error of every folder is found in one go, with file, line
//! and key. Nothing here knows what a model or a plugin does: they are bytes with a digest. The reader of TOML documents
//! serves the binary's own configuration as well.

mod archive;
mod digest;
mod document;
mod files;
mod folder;
mod function;
mod manifest;
mod node;
mod quantity;
mod reader;
pub mod store;

pub use archive::{ArchiveError, ArchiveLimits, pack, unpack};
pub use digest::{Digest, DigestError};
pub use document::{Document, Problem, read_document};
pub use folder::{FileLimits, NamedUpload, ReadError, Uploads, named_uploads, read_function, read_functions};
pub use function::{FileContent, FunctionSpec, ManifestText, ModelSpec, NamedFile, Plugins, Sample};
pub use manifest::{UploadKind, UploadName, is_upload};
pub use quantity::{ByteSize, Count};
