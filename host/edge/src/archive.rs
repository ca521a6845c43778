//! A large body, of a deployment, a plugin or a model, handed on piece by piece as it arrives: bounded in bytes, in the time of each
//! piece and of all, and the one that its sender promised. Knows nothing of what is in it.

use std::time::Duration;

use bytes::Bytes;
use sandmill_domain::ports::{Body, BoxFuture};
use sandmill_domain::{BodyShare, Code, Fault};
use tokio::time::{Instant, timeout_at};

use crate::digest::Promise;
use crate::options::EdgeLimits;
use crate::shared::Shared;
use crate::upload::{Upload, too_large, too_slow};

/// What a body that is too large is told.
const BOUND: &str = "the limit of uploads (upload_bytes_max)";

/// One upload on its way in.
pub(crate) struct Archive<'a> {
    upload: &'a mut Upload,
    limits: &'a EdgeLimits,
    /// When its last byte must be there.
    until: Instant,
    /// How long it was waited for. What the host does with a piece is not its sender's time.
    waited: Duration,
    promise: Option<Promise>,
    /// Of the host's buffered bytes, the piece that was handed on last.
    share: BodyShare,
    is_broken: bool,
}

impl<'a> Archive<'a> {
    /// Nothing is read yet.
    ///
    /// # Errors
    /// `TooLarge` if its sender says that it is.
    pub(crate) fn new(shared: &'a Shared, upload: &'a mut Upload, promise: Option<Promise>) -> Result<Self, Fault> {
        let limits = &shared.limits;
        if upload.announced() > limits.upload_bytes_max {
            return Err(too_large(limits.upload_bytes_max, BOUND));
        }
        let until = Instant::now() + limits.upload_time;
        Ok(Self { upload, limits, until, waited: Duration::ZERO, promise, share: shared.bodies.share(None), is_broken: false })
    }

    async fn piece(&mut self) -> Result<Option<Bytes>, Fault> {
        // Whoever asks for more is done with the last one.
        self.share.resize(0)?;
        let begun = Instant::now();
        let until = self.until.min(begun + self.patience());
        let piece = timeout_at(until, some_bytes(self.upload)).await.map_err(|_elapsed| too_slow())??;
        self.waited += begun.elapsed();
        let Some(piece) = piece else {
            return self.promise.take().map_or(Ok(()), Promise::keep).map(|()| None);
        };
        if self.upload.received() > self.limits.upload_bytes_max {
            return Err(too_large(self.limits.upload_bytes_max, BOUND));
        }
        self.share.resize(piece.len())?;
        if let Some(promise) = &mut self.promise {
            promise.update(&piece);
        }
        Ok(Some(piece))
    }

    /// How long the next piece may take: a pause, of which one that comes in drops has only one in all.
    fn patience(&self) -> Duration {
        let pause = self.limits.upload_pause_time;
        let rate = self.limits.upload_bytes_per_second_min.get();
        let earned = Duration::from_secs_f64(self.upload.received() as f64 / f64::from(rate));
        pause.min((pause + earned).saturating_sub(self.waited))
    }
}

/// The next bytes; none at the end. A frame of HTTP/2 may have none, as the one that ends a body often does.
async fn some_bytes(upload: &mut Upload) -> Result<Option<Bytes>, Fault> {
    loop {
        match upload.next().await? {
            Some(piece) if piece.is_empty() => {}
            piece => return Ok(piece),
        }
    }
}

impl Body for Archive<'_> {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, Fault>> {
        Box::pin(async {
            // Whoever goes on after a failure must not take what follows for the rest.
            if self.is_broken {
                return Err(Fault::new(Code::InvalidInput, "the body is not whole"));
            }
            let piece = self.piece().await;
            self.is_broken = piece.is_err();
            piece
        })
    }
}

/// The body of what has none.
pub(crate) struct NoBody;

impl Body for NoBody {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, Fault>> {
        Box::pin(async { Ok(None) })
    }
}
