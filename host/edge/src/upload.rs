//! A request's body on its way in: read whole under its bounds, or discarded in part.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use sandmill_domain::{BodyShare, Code, Fault};
use tokio::time::{Instant, timeout, timeout_at};

/// What is reserved at once for a body that was only announced: a client must send bytes to make the host hold more.
const RESERVED_BYTES_MAX: usize = 1 << 20;

/// The body of one request. Nothing is read, and no `100 Continue` sent, before [`Upload::read`].
#[derive(Debug)]
pub(crate) struct Upload {
    body: Incoming,
    ended: bool,
    received: u64,
}

/// What a body may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UploadBounds {
    pub(crate) bytes_max: usize,
    /// Whose bound that is, in words.
    pub(crate) bound: &'static str,
    /// When its last byte must be there.
    pub(crate) until: Instant,
}

impl Upload {
    pub(crate) fn new(body: Incoming) -> Self {
        let ended = body.is_end_stream();
        Self { body, ended, received: 0 }
    }

    /// Bytes read so far.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Whether its end was read.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// The whole body, and its share of what may be held, to be kept as long as the body is.
    ///
    /// # Errors
    /// `TooLarge`, before anything is read if the client announced it; `SlowRequest`; `TooManyRequests` or `Overloaded` if the
    /// tenant or the host holds too much already; `InvalidInput` if it breaks off.
    pub(crate) async fn read(&mut self, bounds: UploadBounds, mut share: BodyShare) -> Result<(Bytes, BodyShare), Fault> {
        if self.ended {
            return Ok((Bytes::new(), share));
        }
        let announced = usize::try_from(self.announced()).unwrap_or(usize::MAX);
        if announced > bounds.bytes_max {
            return Err(too_large(bounds.bytes_max as u64, bounds.bound));
        }
        share.has_room(announced)?;
        let gathered = timeout_at(bounds.until, self.gather(announced, bounds, &mut share)).await;
        let body = gathered.map_err(|_elapsed| too_slow())??;
        Ok((body, share))
    }

    /// Reads at most `bytes_max` for at most `time` and forgets it; whether the end was among it.
    pub(crate) async fn discard(&mut self, bytes_max: usize, time: Duration) -> bool {
        let announced = usize::try_from(self.announced()).unwrap_or(usize::MAX);
        if !self.ended && announced <= bytes_max {
            let _given_up = timeout(time, self.forget(bytes_max)).await;
        }
        self.ended
    }

    async fn gather(&mut self, announced: usize, bounds: UploadBounds, share: &mut BodyShare) -> Result<Bytes, Fault> {
        // Most bodies come in one chunk, which is not copied.
        let Some(first) = self.next().await? else { return Ok(Bytes::new()) };
        self.admit(first.len(), bounds, share)?;
        let Some(mut next) = self.next().await? else { return Ok(first) };
        let mut whole = BytesMut::with_capacity(announced.min(RESERVED_BYTES_MAX).max(first.len() + next.len()));
        whole.extend_from_slice(&first);
        drop(first);
        loop {
            self.admit(next.len(), bounds, share)?;
            whole.extend_from_slice(&next);
            match self.next().await? {
                Some(more) => next = more,
                None => return Ok(whole.freeze()),
            }
        }
    }

    fn admit(&self, bytes: usize, bounds: UploadBounds, share: &mut BodyShare) -> Result<(), Fault> {
        if usize::try_from(self.received).is_ok_and(|received| received <= bounds.bytes_max) {
            share.grow(bytes)
        } else {
            Err(too_large(bounds.bytes_max as u64, bounds.bound))
        }
    }

    async fn forget(&mut self, bytes_max: usize) {
        let limit = self.received.saturating_add(bytes_max as u64);
        while self.received < limit && matches!(self.next().await, Ok(Some(_))) {}
    }

    /// What its sender says that there is at least of it, in bytes.
    pub(crate) fn announced(&self) -> u64 {
        self.body.size_hint().lower()
    }

    /// The next chunk; none at the end. Trailers are passed over.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        while !self.ended {
            match self.body.frame().await {
                None => self.ended = true,
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.received += data.len() as u64;
                        return Ok(Some(data));
                    }
                }
                Some(Err(error)) => {
                    let message = "the request's body broke off or is not framed as HTTP wants it";
                    return Err(Fault::new(Code::InvalidInput, message).because(error));
                }
            }
        }
        Ok(None)
    }
}

pub(crate) fn too_large(bytes_max: u64, bound: &str) -> Fault {
    Fault::new(Code::TooLarge, format!("the request's body is larger than {bytes_max} bytes, {bound}"))
}

pub(crate) fn too_slow() -> Fault {
    Fault::new(Code::SlowRequest, "the request's body took too long to arrive")
}
