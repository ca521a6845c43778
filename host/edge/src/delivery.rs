//! An answer's body on its way out, in chunks that know when they are written: so a client that does not read is noticed,
//! and a request is recorded when its answer has left the process.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, SizeHint};

use crate::activity::ChunkId;
use crate::exchange::Exchange;

/// What the connection is handed at once. Each chunk has its own time to be written.
const CHUNK_BYTES_MAX: usize = 64 << 10;

/// The body of an answer.
pub(crate) struct Delivery {
    rest: Bytes,
    exchange: Arc<Exchange>,
}

impl Delivery {
    pub(crate) fn new(body: Bytes, exchange: Exchange) -> Self {
        Self { rest: body, exchange: Arc::new(exchange) }
    }
}

impl Body for Delivery {
    type Data = BodyChunk;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Result<Frame<BodyChunk>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let length = self.rest.len().min(CHUNK_BYTES_MAX);
        let bytes = self.rest.split_to(length);
        let id = self.exchange.activity().hand_out();
        Poll::Ready(Some(Ok(Frame::data(BodyChunk { bytes, id, exchange: Arc::clone(&self.exchange) }))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

/// A chunk of an answer's body, kept by hyper until its bytes are with the kernel.
pub(crate) struct BodyChunk {
    bytes: Bytes,
    id: ChunkId,
    exchange: Arc<Exchange>,
}

impl Buf for BodyChunk {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        self.exchange.sent(count);
    }
}

impl Drop for BodyChunk {
    fn drop(&mut self) {
        self.exchange.activity().settle(self.id);
    }
}
