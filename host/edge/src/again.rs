//! A future that wakes itself while it is polled is polled again at once, not by way of the scheduler, which would wake another thread to
//! take it over. Knows nothing of connections.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// So often in a row at most: a future that has always something to do gives way to others.
const POLLS_MAX: usize = 2;

/// Set while the future is polled.
const POLLED: u8 = 1;
/// Set when it was woken, until it is polled next.
const WOKEN: u8 = 2;

/// The future, and what wakes it.
pub(crate) struct Again<F> {
    work: F,
    bell: Arc<Bell>,
    waker: Waker,
}

struct Bell {
    state: AtomicU8,
    task: AtomicWaker,
}

impl<F> Again<F> {
    pub(crate) fn new(work: F) -> Self {
        let bell = Arc::new(Bell { state: AtomicU8::new(0), task: AtomicWaker::new() });
        let waker = Waker::from(Arc::clone(&bell));
        Self { work, bell, waker }
    }

    pub(crate) fn into_inner(self) -> F {
        self.work
    }
}

impl<F: Future + Unpin> Future for Again<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Self { work, bell, waker } = &mut *self;
        bell.task.register(context.waker());
        for _ in 0..POLLS_MAX {
            // Before it is polled: whoever wakes it from here on has it polled once more.
            bell.state.swap(POLLED, Ordering::AcqRel);
            if let Poll::Ready(output) = Pin::new(&mut *work).poll(&mut Context::from_waker(waker)) {
                return Poll::Ready(output);
            }
            if bell.state.compare_exchange(POLLED, 0, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                return Poll::Pending;
            }
        }
        bell.state.swap(WOKEN, Ordering::AcqRel);
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Who polls it looks at this afterwards, and whoever woke it first has told its task.
        if self.state.fetch_or(WOKEN, Ordering::AcqRel) == 0 {
            self.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;
    use std::thread;
    use std::time::Duration;

    use futures_util::task::noop_waker;
    use tokio::sync::mpsc;

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Pending for so many polls, each of which wakes it.
    fn restless(mut polls: usize) -> impl Future<Output = ()> + Unpin {
        poll_fn(move |context| {
            if polls == 0 {
                return Poll::Ready(());
            }
            polls -= 1;
            context.waker().wake_by_ref();
            Poll::Pending
        })
    }

    #[test]
    fn what_wakes_itself_is_polled_at_once_up_to_its_bound() {
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let mut context = Context::from_waker(&waker);
        let mut poll = |work: &mut Again<_>| (Pin::new(work).poll(&mut context).is_ready(), wakes.0.load(Ordering::SeqCst));

        assert_eq!(poll(&mut Again::new(restless(POLLS_MAX - 1))), (true, 0));
        let mut work = Again::new(restless(2 * POLLS_MAX));
        assert_eq!(poll(&mut work), (false, 1));
        assert_eq!(poll(&mut work), (false, 2));
        assert_eq!(poll(&mut work), (true, 2));
    }

    #[test]
    fn what_is_woken_while_it_rests_is_told_to_its_task_once() {
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let mut inner = noop_waker();
        let mut work = Again::new(poll_fn(|context| {
            inner.clone_from(context.waker());
            Poll::<()>::Pending
        }));
        for polls in 1..3 {
            assert!(Pin::new(&mut work).poll(&mut Context::from_waker(&waker)).is_pending());
            (0..3).for_each(|_| work.waker.wake_by_ref());
            assert_eq!(wakes.0.load(Ordering::SeqCst), polls);
        }
        drop(work);
        // Whoever holds its waker longer than it lasts wakes a task that is glad of it or not there.
        inner.wake();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nothing_is_lost_that_other_threads_wake_it_for() {
        let (sender, mut receiver) = mpsc::channel(1);
        let sending = thread::spawn(move || {
            for number in 0..100_000_u32 {
                sender.blocking_send(number).expect("somebody listens");
                // Sometimes while it is polled and sometimes while it rests.
                if number % 7 == 0 {
                    thread::yield_now();
                }
            }
        });
        let receiving = Again::new(Box::pin(async move {
            let mut expected = 0;
            while let Some(number) = receiver.recv().await {
                assert_eq!(number, expected);
                expected += 1;
            }
            expected
        }));
        let received = tokio::time::timeout(Duration::from_secs(60), tokio::spawn(receiving)).await;
        assert_eq!(received.expect("it goes on").expect("it does not panic"), 100_000);
        sending.join().expect("all is sent");
    }
}
