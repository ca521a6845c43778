//! What is large on its way to the server: a file, or a function folder packed into one that goes when it is dropped; sent piece by
//! piece, with its digest.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::Method;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, IF_MATCH};
use indicatif::{ProgressBar, ProgressStyle};
use sandmill_catalog::FunctionSpec;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, ReadBuf};

use super::ask::{Plane, Told};

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");

/// What is read and sent at once.
const PIECE_BYTES: usize = 64 << 10;

/// Something to be sent.
pub(super) struct Parcel {
    file: File,
    /// Its size.
    pub(super) bytes: u64,
    sha256: [u8; 32],
}

impl Parcel {
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

    /// A file as it is. Blocks.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(super) fn of_file(path: &Path) -> Result<Self> {
        let trouble = || format!("cannot read {}", path.display());
        let mut file = File::open(path).with_context(trouble)?;
        let mut hash = Hashing { file: io::sink(), bytes: 0, sha256: Sha256::new() };
        io::copy(&mut file, &mut hash).with_context(trouble)?;
        file.seek(SeekFrom::Start(0)).with_context(trouble)?;
        Ok(Self { file, bytes: hash.bytes, sha256: hash.sha256.finalize().into() })
    }

    /// For the header `Content-Digest`, RFC 9530.
    fn digest(&self) -> HeaderValue {
        let text = format!("sha-256=:{}:", STANDARD.encode(self.sha256));
        HeaderValue::from_str(&text).expect("invariant: base64 is a header's value")
    }

    /// As a request's body.
    fn into_body(self, progress: Progress) -> super::Body {
        let Self { file, bytes, .. } = self;
        let sending =
            Sending { file: tokio::fs::File::from_std(file), left: bytes, piece: vec![0; PIECE_BYTES].into(), progress };
        super::Body::new(sending)
    }
}

struct Hashing<W> {
    file: W,
    bytes: u64,
    sha256: Sha256,
}

impl<W: Write> Write for Hashing<W> {
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

/// Sends it, for a state that it rests on if there is one.
pub(super) async fn send(
    plane: &Plane,
    path: &str,
    kind: &'static str,
    revision: Option<HeaderValue>,
    parcel: Parcel,
) -> Result<Told> {
    let mut headers = vec![(CONTENT_TYPE, HeaderValue::from_static(kind)), (CONTENT_DIGEST, parcel.digest())];
    headers.extend(revision.map(|revision| (IF_MATCH, revision)));
    let progress = Progress::new(parcel.bytes);
    let told = plane.send(Method::PUT, path, headers, parcel.into_body(progress.clone())).await;
    progress.end();
    told
}

/// What a person sees while it takes its time; nothing without a terminal.
#[derive(Clone)]
struct Progress(ProgressBar);

impl Progress {
    fn new(bytes: u64) -> Self {
        let bar = ProgressBar::new(bytes);
        set_style(&bar, "uploading {bar:30} {bytes}/{total_bytes} {bytes_per_sec}");
        Self(bar)
    }

    /// More is on its way; from the last byte on the server is at work.
    fn sent(&self, bytes: u64, is_last: bool) {
        self.0.inc(bytes);
        if is_last {
            set_style(&self.0, "{spinner} the server compiles, loads and tries it ({elapsed})");
            self.0.enable_steady_tick(Duration::from_millis(100));
        }
    }

    fn end(&self) {
        self.0.finish_and_clear();
    }
}

fn set_style(bar: &ProgressBar, template: &str) {
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner()));
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
