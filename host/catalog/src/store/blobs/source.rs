//! A file that is being uploaded: read in parts and digested on a thread that may block.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::task::spawn_blocking;

use crate::Digest;
use crate::store::{BlobRef, StoreError};

/// A file, as far as it has been read.
pub(super) struct Source {
    path: PathBuf,
    expected: BlobRef,
    /// Away while a thread reads.
    reading: Option<Reading>,
}

struct Reading {
    file: File,
    hasher: Sha256,
    len: u64,
}

impl Reading {
    fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)?, hasher: Sha256::new(), len: 0 })
    }

    fn next(&mut self, bytes_max: usize) -> io::Result<Bytes> {
        let mut part = Vec::with_capacity(bytes_max);
        (&mut self.file).take(bytes_max as u64).read_to_end(&mut part)?;
        self.hasher.update(&part);
        self.len += part.len() as u64;
        Ok(part.into())
    }
}

impl Source {
    pub(super) async fn open(path: &Path, expected: &BlobRef) -> Result<Self, StoreError> {
        let opened = path.to_owned();
        let reading = run(path, move || Reading::open(&opened)).await?;
        Ok(Self { path: path.to_owned(), expected: *expected, reading: Some(reading) })
    }

    /// The next bytes of it, none at its end. A file that has grown is not read on for ever.
    pub(super) async fn next(&mut self, bytes_max: usize) -> Result<Bytes, StoreError> {
        let mut reading = self.reading.take().expect("invariant: a source that failed is not read on");
        let (bytes, reading) = run(&self.path, move || Ok((reading.next(bytes_max)?, reading))).await?;
        let too_long = reading.len > self.expected.len;
        self.reading = Some(reading);
        if too_long { Err(self.refuse("it is longer than was said".into())) } else { Ok(bytes) }
    }

    /// Whether what was read is the whole file, and the one that was meant.
    pub(super) async fn check(mut self) -> Result<(), StoreError> {
        // A file that fits the parts exactly may still go on.
        self.next(1).await?;
        let reading = self.reading.take().expect("invariant: it was put back");
        let (len, expected) = (reading.len, self.expected);
        let digest = Digest::from_bytes(reading.hasher.finalize().into());
        if (digest, len) == (expected.sha256, expected.len) {
            return Ok(());
        }
        Err(self.refuse(format!("it has {len} bytes with the SHA-256 {digest}, not {} with {}", expected.len, expected.sha256)))
    }

    fn refuse(&self, cause: String) -> StoreError {
        StoreError::File { path: self.path.display().to_string(), cause }
    }
}

/// Does something to a file on a thread that may block.
pub(super) async fn run<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, StoreError> {
    let ended = spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)));
    ended.map_err(|error| StoreError::File { path: path.display().to_string(), cause: error.to_string() })
}
