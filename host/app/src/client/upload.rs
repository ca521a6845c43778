//! A function folder on its way to the server: packed into a file of its own, which goes when it is dropped, and sent piece by piece.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::HeaderValue;
use sandmill_catalog::FunctionSpec;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, ReadBuf};

use super::deploy::Progress;

/// What is read and sent at once.
const PIECE_BYTES: usize = 64 << 10;

/// A packed function folder.
pub(super) struct Archive {
    file: File,
    /// Its size.
    pub(super) bytes: u64,
    sha256: [u8; 32],
}

impl Archive {
    /// Packs what a manifest names. Blocks.
    ///
    /// # Errors
    /// If a file cannot be read, or there is no room for the archive.
    pub(super) fn pack(spec: &FunctionSpec) -> Result<Self> {
        let file = tempfile::tempfile().context("cannot make a temporary file for the archive")?;
        let mut into = Hashing { file, bytes: 0, sha256: Sha256::new() };
        sandmill_catalog::pack(spec, &mut into).context("cannot pack the folder")?;
        let Hashing { mut file, bytes, sha256 } = into;
        file.seek(SeekFrom::Start(0)).context("cannot read the archive again")?;
        Ok(Self { file, bytes, sha256: sha256.finalize().into() })
    }

    /// For the header `Content-Digest`, RFC 9530.
    pub(super) fn digest(&self) -> HeaderValue {
        let text = format!("sha-256=:{}:", STANDARD.encode(self.sha256));
        HeaderValue::from_str(&text).expect("invariant: base64 is a header's value")
    }

    /// As a request's body.
    pub(super) fn into_body(self, progress: Progress) -> super::Body {
        let Self { file, bytes, .. } = self;
        let sending =
            Sending { file: tokio::fs::File::from_std(file), left: bytes, piece: vec![0; PIECE_BYTES].into(), progress };
        super::Body::new(sending)
    }
}

struct Hashing {
    file: File,
    bytes: u64,
    sha256: Sha256,
}

impl Write for Hashing {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let written = self.file.write(piece)?;
        self.sha256.update(&piece[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

struct Sending {
    file: tokio::fs::File,
    left: u64,
    piece: Box<[u8]>,
    progress: Progress,
}

impl Body for Sending {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let Self { file, left, piece, progress } = self.get_mut();
        if *left == 0 {
            return Poll::Ready(None);
        }
        let mut read = ReadBuf::new(piece);
        ready!(Pin::new(file).poll_read(context, &mut read))?;
        let read = Bytes::copy_from_slice(read.filled());
        if read.is_empty() {
            return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
        }
        *left = left.saturating_sub(read.len() as u64);
        progress.sent(read.len() as u64, *left == 0);
        Poll::Ready(Some(Ok(Frame::data(read))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
