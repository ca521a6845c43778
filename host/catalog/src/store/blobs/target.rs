//! A file that is being downloaded: written beside its place and digested, on a thread that may block, and put there when it is
//! known to be right.

use std::fs::File;
use std::io::{self, Write};
use std::mem::take;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tempfile::{Builder, NamedTempFile};

use super::source::run;
use crate::Digest;
use crate::store::StoreError;

/// Pieces come small; a thread is asked only for so many of them together, in bytes.
const GATHERED_BYTES: usize = 1 << 20;

/// What is downloaded, as far as it has come; without a path it is only digested.
pub(super) struct Target {
    into: Option<PathBuf>,
    /// Away while a thread writes.
    writing: Option<Writing>,
    gathered: Vec<Bytes>,
    gathered_bytes: usize,
}

struct Writing {
    file: Option<NamedTempFile>,
    hasher: Sha256,
    len: u64,
}

impl Writing {
    fn open(into: Option<&Path>) -> io::Result<Self> {
        let file = into.map(|path| Builder::new().prefix(".fetch-").tempfile_in(folder(path))).transpose()?;
        Ok(Self { file, hasher: Sha256::new(), len: 0 })
    }

    fn write(&mut self, pieces: &[Bytes]) -> io::Result<()> {
        for piece in pieces {
            self.hasher.update(piece);
            self.len += piece.len() as u64;
            self.file.as_mut().map_or(Ok(()), |file| file.write_all(piece))?;
        }
        Ok(())
    }

    fn keep(self, into: &Path) -> io::Result<()> {
        let Some(file) = self.file else { return Ok(()) };
        file.as_file().sync_all()?;
        file.persist(into)?;
        File::open(folder(into))?.sync_all()
    }
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

impl Target {
    pub(super) async fn open(into: Option<&Path>) -> Result<Self, StoreError> {
        let into = into.map(Path::to_owned);
        let path = into.clone();
        let writing = run(named(into.as_deref()), move || Writing::open(path.as_deref())).await?;
        Ok(Self { into, writing: Some(writing), gathered: Vec::new(), gathered_bytes: 0 })
    }

    pub(super) async fn push(&mut self, piece: Bytes) -> Result<(), StoreError> {
        self.gathered_bytes += piece.len();
        self.gathered.push(piece);
        if self.gathered_bytes < GATHERED_BYTES { Ok(()) } else { self.flush().await }
    }

    async fn flush(&mut self) -> Result<(), StoreError> {
        let mut writing = self.writing.take().expect("invariant: a target that failed is not written to");
        self.gathered_bytes = 0;
        let pieces = take(&mut self.gathered);
        let work = move || writing.write(&pieces).map(|()| writing);
        self.writing = Some(run(named(self.into.as_deref()), work).await?);
        Ok(())
    }

    /// Of all that came, and how much it was.
    pub(super) async fn digest(&mut self) -> Result<(Digest, u64), StoreError> {
        self.flush().await?;
        let writing = self.writing.as_ref().expect("invariant: it was put back");
        Ok((Digest::from_bytes(writing.hasher.clone().finalize().into()), writing.len))
    }

    /// Puts the file where it belongs.
    pub(super) async fn keep(mut self) -> Result<(), StoreError> {
        let (Some(into), Some(writing)) = (self.into.clone(), self.writing.take()) else { return Ok(()) };
        let path = into.clone();
        run(&into, move || writing.keep(&path)).await
    }
}

fn named(into: Option<&Path>) -> &Path {
    into.unwrap_or(Path::new("a download"))
}
