//! The two bodies of a request, each up to its bound.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Sleep, sleep_until};
use wasmtime_wasi_http::{Error, WasiBody};

use crate::outgoing::exchange::{Times, of_hyper};

/// What the guest sends.
pub(super) struct Upload {
    body: WasiBody,
    budget: Budget,
}

impl Upload {
    pub(super) fn new(body: WasiBody, bytes_max: usize) -> Self {
        Self { body, budget: Budget::new(bytes_max) }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        Poll::Ready(frame.map(|frame| self.budget.spend(frame?).map_err(|bytes| Error::HttpRequestBodySize(Some(bytes)))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What the guest gets. Its connection is the business of another task.
pub(super) struct Download {
    body: Incoming,
    budget: Budget,
    times: Times,
    timer: Pin<Box<Sleep>>,
    /// Whether the timer runs: not while the guest does not ask for more.
    waits: bool,
}

impl Download {
    pub(super) fn new(body: Incoming, bytes_max: usize, times: Times) -> Self {
        let timer = Box::pin(sleep_until(times.deadline));
        Self { body, budget: Budget::new(bytes_max), times, timer, waits: false }
    }

    fn next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.budget.is_below(self.body.size_hint().lower()) {
            // All of it is not worth a byte.
            return Poll::Ready(Some(Err(Error::HttpResponseBodySize(Some(self.body.size_hint().lower())))));
        }
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) else {
            if !self.waits {
                self.timer.as_mut().reset(self.times.until(self.times.between_bytes));
                self.waits = true;
            }
            ready!(self.timer.as_mut().poll(context));
            return Poll::Ready(Some(Err(Error::ConnectionReadTimeout)));
        };
        self.waits = false;
        Poll::Ready(match frame {
            Some(Ok(frame)) => Some(self.budget.spend(frame).map_err(|bytes| Error::HttpResponseBodySize(Some(bytes)))),
            Some(Err(error)) => Some(Err(of_hyper(&error))),
            None => None,
        })
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.next(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Counts bytes.
struct Budget {
    left: u64,
    max: u64,
}

impl Budget {
    fn new(bytes_max: usize) -> Self {
        let max = u64::try_from(bytes_max).unwrap_or(u64::MAX);
        Self { left: max, max }
    }

    fn is_below(&self, bytes: u64) -> bool {
        self.left < bytes
    }

    /// # Errors
    /// How many bytes there are at least, if that is too many.
    fn spend(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, u64> {
        let bytes = frame.data_ref().map_or(0, |data| u64::try_from(data.len()).unwrap_or(u64::MAX));
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Ok(frame)
            }
            None => Err((self.max - self.left).saturating_add(bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_ends() {
        let mut budget = Budget::new(10);
        let data = |bytes: usize| Frame::data(Bytes::from(vec![0; bytes]));
        assert!(budget.spend(data(6)).is_ok() && budget.spend(data(0)).is_ok());
        assert!(budget.spend(Frame::trailers(http::HeaderMap::new())).is_ok());
        assert_eq!(budget.spend(data(5)).unwrap_err(), 11);
        assert!(budget.is_below(5) && !budget.is_below(4));
        assert!(budget.spend(data(4)).is_ok());
    }
}
