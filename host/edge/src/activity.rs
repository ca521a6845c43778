//! What happens on one connection, and until when it may go on like that: a clock for heads, idleness and writing, which
//! hyper does not have. Knows no HTTP.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::options::EdgeLimits;

/// Why a connection has to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// A head, or a handshake, was begun and did not end in time.
    Head,
    /// No request was under way for too long.
    Idle,
    /// The client does not read what it asked for.
    Write,
}

/// A chunk of an answer's body that was handed to the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkId(u64);

/// The state of one connection, shared by its socket, its requests and its answers.
#[derive(Debug)]
pub(crate) struct Activity {
    bounds: Bounds,
    state: Mutex<State>,
}

impl Activity {
    /// A new connection: idle, and its protocol unknown.
    pub(crate) fn new(limits: &EdgeLimits) -> Self {
        let bounds =
            Bounds { head: limits.head_time, idle: limits.idle_time, write: limits.write_time, last: limits.drain_idle_time };
        Self { bounds, state: Mutex::new(State::new(Instant::now())) }
    }

    /// Waits until the connection has to go.
    pub(crate) async fn expired(&self) -> Cause {
        loop {
            let verdict = self.lock().verdict(&self.bounds, Instant::now());
            match verdict {
                Verdict::Expired(cause) => return cause,
                Verdict::Until(wake) => sleep_until(wake).await,
            }
        }
    }

    /// Bytes came in.
    pub(crate) fn received(&self) {
        let mut state = self.lock();
        if state.requests == 0 && !state.multiplexed {
            state.head_since.get_or_insert_with(Instant::now);
        }
    }

    /// The connection speaks TLS from now on: what came so far was no head.
    pub(crate) fn secure(&self) {
        let mut state = self.lock();
        state.head_since = None;
        state.idle_since = Instant::now();
    }

    /// The connection speaks HTTP/2, whose frames need not be heads: from now on only idleness counts.
    pub(crate) fn multiplex(&self) {
        let mut state = self.lock();
        state.multiplexed = true;
        state.head_since = None;
    }

    /// A request's head is complete.
    pub(crate) fn enter(&self) {
        let mut state = self.lock();
        state.requests += 1;
        state.head_since = None;
    }

    /// A request's answer is written, or nobody wants it any more.
    pub(crate) fn leave(&self) {
        let mut state = self.lock();
        state.requests -= 1;
        state.idle_since = Instant::now();
    }

    /// A chunk of an answer is to be written.
    pub(crate) fn hand_out(&self) -> ChunkId {
        let mut state = self.lock();
        let chunk = ChunkId(state.chunks_ever);
        state.chunks_ever += 1;
        state.chunks.push((chunk, Instant::now()));
        chunk
    }

    /// The chunk is written, or dropped.
    pub(crate) fn settle(&self, chunk: ChunkId) {
        self.lock().chunks.retain(|(other, _)| *other != chunk);
    }

    /// The socket takes no more bytes, or does so again.
    pub(crate) fn block_writes(&self, blocked: bool) {
        self.lock().blocked_since = blocked.then(Instant::now);
    }

    /// No request is wanted after those that are on their way; whether that is news.
    pub(crate) fn close_soon(&self) -> bool {
        let mut state = self.lock();
        let news = state.closing_since.is_none();
        state.closing_since.get_or_insert_with(Instant::now);
        news
    }

    /// Whether [`Activity::close_soon`] was called.
    pub(crate) fn is_closing(&self) -> bool {
        self.lock().closing_since.is_some()
    }

    /// What lies unsent is not worth the kernel's memory.
    pub(crate) fn abandon(&self) {
        self.lock().abandoned = true;
    }

    /// Whether [`Activity::abandon`] was called.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.lock().abandoned
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Bounds {
    head: Duration,
    idle: Duration,
    write: Duration,
    last: Duration,
}

#[derive(Debug)]
struct State {
    /// Requests from their complete head to the last byte of their answer.
    requests: usize,
    /// Chunks that are not written yet, the oldest first.
    chunks: Vec<(ChunkId, Instant)>,
    chunks_ever: u64,
    blocked_since: Option<Instant>,
    head_since: Option<Instant>,
    idle_since: Instant,
    closing_since: Option<Instant>,
    multiplexed: bool,
    abandoned: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Until(Instant),
    Expired(Cause),
}

impl State {
    fn new(now: Instant) -> Self {
        Self {
            requests: 0,
            chunks: Vec::new(),
            chunks_ever: 0,
            blocked_since: None,
            head_since: None,
            idle_since: now,
            closing_since: None,
            multiplexed: false,
            abandoned: false,
        }
    }

    /// Whether time is up; or when to look again, which is early enough for anything that may begin meanwhile.
    fn verdict(&self, bounds: &Bounds, now: Instant) -> Verdict {
        let writing = self.chunks.first().map(|(_, since)| *since).into_iter().chain(self.blocked_since);
        let ends = writing.map(|since| (since + bounds.write, Cause::Write)).chain(self.quiet(bounds));
        let shortest = bounds.head.min(bounds.idle).min(bounds.write);
        let news = now + if self.closing_since.is_some() { shortest.min(bounds.last) } else { shortest };
        match ends.min_by_key(|(at, _)| *at) {
            Some((at, cause)) if at <= now => Verdict::Expired(cause),
            Some((at, _)) => Verdict::Until(at.min(news)),
            None => Verdict::Until(news),
        }
    }

    /// When a connection without a request has to go.
    fn quiet(&self, bounds: &Bounds) -> Option<(Instant, Cause)> {
        (self.requests == 0).then(|| match (self.head_since, self.closing_since) {
            (Some(since), _) => (since + bounds.head, Cause::Head),
            (None, Some(closing)) => (self.idle_since.max(closing) + bounds.last, Cause::Idle),
            (None, None) => (self.idle_since + bounds.idle, Cause::Idle),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn activity() -> Activity {
        Activity::new(&EdgeLimits {
            head_time: Duration::from_secs(10),
            idle_time: Duration::from_secs(75),
            write_time: Duration::from_secs(30),
            drain_idle_time: Duration::from_secs(1),
            ..EdgeLimits::default()
        })
    }

    /// After how many seconds of virtual time which clock runs out.
    async fn outcome(activity: &Activity) -> (u64, Cause) {
        let start = Instant::now();
        let cause = activity.expired().await;
        (start.elapsed().as_secs(), cause)
    }

    async fn pass(seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_connection_is_idle() {
        assert_eq!(outcome(&activity()).await, (75, Cause::Idle));
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_has_its_own_time_from_its_first_byte() {
        let activity = activity();
        pass(74).await;
        activity.received();
        pass(9).await;
        activity.received();
        assert_eq!(outcome(&activity).await, (1, Cause::Head));
    }

    #[tokio::test(start_paused = true)]
    async fn a_handshake_has_the_time_of_a_head_and_none_of_the_first_head() {
        let activity = activity();
        activity.received();
        pass(9).await;
        activity.secure();
        pass(5).await;
        activity.received();
        assert_eq!(outcome(&activity).await, (10, Cause::Head));
        activity.secure();
        assert_eq!(outcome(&activity).await, (75, Cause::Idle));
    }

    #[tokio::test(start_paused = true)]
    async fn frames_do_not_prolong_an_idle_http2_connection() {
        let activity = activity();
        activity.received();
        activity.multiplex();
        pass(70).await;
        activity.received();
        assert_eq!(outcome(&activity).await, (5, Cause::Idle));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_under_way_stops_the_idle_clock() {
        let activity = activity();
        activity.enter();
        let long = tokio::time::timeout(Duration::from_secs(1000), activity.expired()).await;
        assert!(long.is_err());
        activity.leave();
        assert_eq!(outcome(&activity).await, (75, Cause::Idle));
    }

    #[tokio::test(start_paused = true)]
    async fn each_chunk_has_its_own_time_to_be_written() {
        let activity = activity();
        activity.enter();
        let first = activity.hand_out();
        pass(20).await;
        activity.hand_out();
        activity.settle(first);
        assert_eq!(outcome(&activity).await, (30, Cause::Write));
    }

    #[tokio::test(start_paused = true)]
    async fn a_blocked_socket_is_not_waited_for() {
        let activity = activity();
        activity.enter();
        activity.block_writes(true);
        pass(29).await;
        activity.block_writes(false);
        activity.block_writes(true);
        assert_eq!(outcome(&activity).await, (30, Cause::Write));
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_starts_while_another_runs_is_seen_in_time() {
        let activity = std::sync::Arc::new(activity());
        let watched = std::sync::Arc::clone(&activity);
        let watch = tokio::spawn(async move { outcome(&watched).await });
        pass(3).await;
        activity.enter();
        activity.hand_out();
        assert_eq!(watch.await.expect("ends"), (33, Cause::Write));
    }

    #[tokio::test(start_paused = true)]
    async fn a_closing_connection_waits_a_little_for_what_is_on_its_way() {
        let activity = activity();
        pass(50).await;
        assert!(activity.close_soon());
        assert!(!activity.close_soon());
        assert_eq!(outcome(&activity).await, (1, Cause::Idle));
    }

    #[tokio::test(start_paused = true)]
    async fn a_closing_connection_finishes_the_head_it_has_begun() {
        let activity = activity();
        activity.received();
        activity.close_soon();
        assert_eq!(outcome(&activity).await, (10, Cause::Head));
    }
}
