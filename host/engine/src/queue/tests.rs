//! The queue by itself: nothing is run, and calls are nobody's.

use std::sync::atomic::Ordering;

use sandmill_domain::Deadline;

use super::*;
use crate::batch::Slot;
use crate::call::Work;
use crate::order::Rank;
use crate::watchdog::Expire;

fn call(queue: &Queue) -> Arc<Call> {
    of(queue, Priority::Normal)
}

fn of(queue: &Queue, priority: Priority) -> Arc<Call> {
    within(queue, priority, Duration::from_secs(60))
}

fn within(queue: &Queue, priority: Priority, time: Duration) -> Arc<Call> {
    let now = Instant::now();
    let urgency = Urgency { deadline: Deadline::after(now, time), priority };
    let slot = Slot { rows: Some(1), tail: vec![], bytes: 0, submitted: now, rank: Rank::new(urgency, now) };
    let work = Work { inputs: vec![], _bytes: queue.count(0, priority).unwrap() };
    // Held by the queue alone: the reply is still there.
    let (call, outcome) = Call::new(work, slot, urgency);
    std::mem::forget(outcome);
    call
}

fn wait(queue: &Queue) -> Option<Fetched> {
    queue.wait().then(|| queue.take()).flatten()
}

fn sends(queue: &Queue) -> bool {
    matches!(queue.push(call(queue), true).unwrap(), Next::SendTask)
}

fn leaves(queue: &Queue, short: bool) -> bool {
    matches!(queue.push(call(queue), short).unwrap(), Next::Leave)
}

fn by_tasks(tasks_max: usize) -> Queue {
    let queue = Queue::new(16, 0, tasks_max);
    queue.set(Policy::OFF, Some(Policy { rows_max: 4, ..Policy::OFF }));
    queue
}

#[test]
fn one_task_comes_for_all_calls_that_are_queued_before_it_does() {
    let queue = by_tasks(2);
    assert!(sends(&queue) && leaves(&queue, true), "one is coming");
    let fetched = queue.fetch(Instant::now()).unwrap();
    assert_eq!((fetched.calls.len(), fetched.reason, fetched.more), (2, BatchReason::Idle, false));
    // While that runs, another one is sent, and no third.
    assert!(sends(&queue));
    assert!(queue.fetch(Instant::now()).is_some());
    assert!(leaves(&queue, true), "both places are taken");
    assert!(queue.done() && !queue.done(), "the first to be done sends for it");
    assert!(queue.fetch(Instant::now()).is_some() && queue.fetch(Instant::now()).is_none());
    assert!(!queue.done());
    assert!(sends(&queue), "nobody is there");
}

#[test]
fn who_fills_a_batch_runs_it() {
    let queue = by_tasks(2);
    assert!(sends(&queue) && leaves(&queue, true) && leaves(&queue, true));
    let Next::Run(fetched) = queue.push(call(&queue), true).unwrap() else { panic!("it is full") };
    assert_eq!((fetched.calls.len(), fetched.reason), (4, BatchReason::Full));
    assert!(queue.fetch(Instant::now()).is_none(), "the task comes too late");

    queue.set(Policy::OFF, Some(Policy::OFF));
    let Next::Run(fetched) = queue.push(call(&queue), true).unwrap() else { panic!("it is for itself") };
    assert_eq!((fetched.calls.len(), fetched.reason), (1, BatchReason::Alone));
    // Both places are taken, the first by the batch: what comes now waits until one is done.
    assert!(leaves(&queue, true));
    assert!(queue.done() && !queue.done());
    assert_eq!(queue.fetch(Instant::now()).unwrap().calls.len(), 1);
}

#[test]
fn a_call_that_would_find_nobody_runs_at_once_and_company_is_noticed() {
    let queue = by_tasks(2);
    let alone = || match queue.push(call(&queue), true).unwrap() {
        Next::Run(fetched) => {
            assert_eq!((fetched.calls.len(), fetched.reason), (1, BatchReason::Alone));
            assert!(!queue.done());
            true
        }
        Next::SendTask => {
            assert_eq!(queue.fetch(Instant::now()).unwrap().calls.len(), 1);
            assert!(!queue.done());
            false
        }
        Next::Leave | Next::Load => panic!("somebody is to run it"),
    };
    let first = (0..100).take_while(|_| !alone()).count();
    assert!((5..20).contains(&first), "so many tasks found nobody else: {first}");
    assert_eq!((0..160).filter(|_| alone()).count(), 150, "of 16, one is left to a task");

    // While one runs, the next is no lonely call.
    while !matches!(queue.push(call(&queue), true).unwrap(), Next::Run(_)) {
        assert_eq!(queue.fetch(Instant::now()).unwrap().calls.len(), 1);
        queue.done();
    }
    assert!(sends(&queue) && leaves(&queue, true));
    queue.done();
    assert_eq!(queue.fetch(Instant::now()).unwrap().calls.len(), 2);
    assert!(!queue.done());
    // Where several wait for each task, all are left to tasks.
    let tasks = (0..100).filter(|_| match queue.push(call(&queue), true).unwrap() {
        Next::SendTask => {
            assert!(leaves(&queue, true) && leaves(&queue, true));
            assert_eq!(queue.fetch(Instant::now()).unwrap().calls.len(), 3);
            queue.done();
            true
        }
        _ => {
            queue.done();
            false
        }
    });
    assert!(tasks.count() > 80);
}

#[test]
fn however_many_are_ready_at_once_the_queue_is_never_longer_than_a_batch() {
    let queue = by_tasks(1);
    let mut ran = 0;
    for _ in 0..100 {
        if let Next::Run(fetched) = queue.push(call(&queue), true).unwrap() {
            ran += fetched.calls.len();
            queue.done();
        }
        assert!(lock(&queue.waiting).len() < 4);
    }
    assert_eq!(ran, 100);
}

#[test]
fn a_task_that_is_dropped_leaves_its_place() {
    let queue = by_tasks(1);
    assert!(sends(&queue));
    queue.forget_task();
    assert!(sends(&queue));
    assert_eq!(queue.fetch(Instant::now()).unwrap().calls.len(), 2);
}

#[test]
fn a_long_call_is_for_threads_while_short_ones_are_for_tasks() {
    let queue = by_tasks(1);
    assert!(leaves(&queue, false));
    assert!(sends(&queue));
    let fetched = wait(&queue).unwrap();
    assert_eq!((fetched.calls.len(), fetched.reason), (1, BatchReason::Alone));
    assert_eq!(queue.fetch(Instant::now()).unwrap().calls.len(), 1);
}

#[test]
fn both_lanes_count_against_one_bound() {
    let queue = Queue::new(2, 0, 1);
    queue.set(Policy::OFF, Some(Policy { rows_max: 4, ..Policy::OFF }));
    assert!(leaves(&queue, false) && sends(&queue));
    assert!(queue.push(call(&queue), true).is_err_and(|fault| fault.code == Code::Overloaded));
}

#[test]
fn lower_priorities_leave_room_for_higher_ones() {
    use Priority::{High, Low, Normal};
    let queue = Queue::new(8, 80, 1);
    let push = |priority| queue.push(of(&queue, priority), false).err().map(|fault| fault.message);
    let fits = |priority, count| (0..count).all(|_| push(priority).is_none());
    assert!(fits(Low, 4));
    assert_eq!(push(Low).unwrap(), "the model's queue is full for calls of priority low, which may fill half of it");
    assert!(fits(Normal, 2));
    assert_eq!(push(Normal).unwrap(), "the model's queue is full for calls of priority normal, which may fill 3/4 of it");
    assert!(fits(High, 2));
    assert_eq!(push(High).unwrap(), "the model's queue is full");

    let mut held = vec![queue.count(40, Low).unwrap()];
    assert!(queue.count(1, Low).is_err());
    held.push(queue.count(20, Normal).unwrap());
    assert!(queue.count(1, Normal).is_err());
    held.push(queue.count(20, High).unwrap());
    assert!(queue.count(1, High).is_err_and(|fault| fault.code == Code::Overloaded));
    drop(held);
    assert!(queue.count(81, High).is_err() && queue.count(80, Low).is_ok(), "whoever is alone may take all");
}

#[test]
fn calls_of_a_higher_priority_are_fetched_first() {
    let queue = Queue::new(16, 0, 1);
    for priority in [Priority::Low, Priority::Normal, Priority::Normal, Priority::High] {
        assert!(matches!(queue.push(of(&queue, priority), false), Ok(Next::Leave)));
    }
    let fetched: Vec<_> = (0..4).map(|_| wait(&queue).unwrap().calls[0].priority).collect();
    assert_eq!(fetched, [Priority::High, Priority::Normal, Priority::Normal, Priority::Low]);
}

#[test]
fn calls_that_would_be_late_are_refused_and_those_that_became_late_never_run() {
    use Priority::{High, Low, Normal};
    let queue = Queue::new(16, 0, 1);
    let push = |priority, ms| queue.push(within(&queue, priority, Duration::from_millis(ms)), false);
    // Nothing is known.
    assert!((0..4).all(|_| push(Normal, 50).is_ok()));
    queue.pace(false).ran(Duration::from_secs(1), 1, true);
    // One of the four has the free place, and three wait before this one's own run.
    let fault = push(Normal, 3_900).err().expect("too late");
    assert_eq!(fault.code, Code::Overloaded);
    assert!(fault.message.starts_with("the model is busy: the answer would take 4000 ms, and there are 3"), "{}", fault.message);
    assert!(push(High, 900).is_ok() && push(Normal, 5_900).is_ok());
    let low = |ms| queue.check(Urgency { deadline: Deadline::after(Instant::now(), Duration::from_millis(ms)), priority: Low });
    assert!(low(5_900).is_err() && low(6_500).is_ok());
    // All but the last have less left than a run takes.
    let ran = wait(&queue).expect("the only one with time").calls;
    assert_eq!(ran[0].deadline.remaining(Instant::now()).as_secs(), 5);
    assert_eq!(queue.load().0, [0, 0, 0]);
}

#[test]
fn of_calls_that_are_all_late_as_many_run_as_could_begin_and_those_with_the_most_time() {
    let queue = Queue::new(16, 0, 2);
    let push = |ms| queue.push(within(&queue, Priority::Normal, Duration::from_millis(ms)), false);
    assert!([300, 900, 100, 600].into_iter().all(|ms| push(ms).is_ok()));
    queue.pace(false).ran(Duration::from_secs(100), 1, true);
    let ms = |fetched: Fetched| fetched.calls[0].deadline.remaining(Instant::now()).as_millis() / 300;
    assert_eq!([wait(&queue).map(ms), wait(&queue).map(ms)], [Some(2), Some(1)]);
    assert_eq!(queue.load().0, [0, 0, 0]);
    // Both places are taken, and this would have the next one.
    assert!(push(50).is_ok() && push(50).is_err());
}

#[test]
fn who_has_gone_is_nobody_to_wait_for() {
    let queue = Queue::new(16, 0, 1);
    queue.pace(false).ran(Duration::from_secs(40), 1, true);
    let gone: Vec<_> = (0..3).map(|_| call(&queue)).collect();
    assert!(queue.push(Arc::clone(&gone[0]), false).is_ok() && queue.push(Arc::clone(&gone[1]), false).is_ok());
    assert!(queue.push(Arc::clone(&gone[2]), false).is_err(), "80 s, and 60 left");
    gone.into_iter().for_each(Expire::expire);
    assert!(queue.push(call(&queue), false).is_ok());
}

#[test]
fn long_runs_of_one_lane_make_nobody_late_in_the_other() {
    let queue = by_tasks(1);
    queue.pace(false).ran(Duration::from_secs(1000), 1, true);
    assert!(leaves(&queue, false));
    assert!(
        queue
            .check(Urgency { deadline: Deadline::after(Instant::now(), Duration::from_secs(1)), priority: Priority::Normal })
            .is_ok()
    );
    assert!(sends(&queue) && leaves(&queue, true));
    assert_eq!(queue.fetch(Instant::now()).expect("both").calls.len(), 2);
}

#[test]
fn threads_that_cannot_be_started_are_tried_once_for_each_call() {
    let queue = Arc::new(Queue::new(16, 0, 2));
    let (tried, starter) = (Arc::new(AtomicUsize::new(0)), Arc::downgrade(&queue));
    let counted = Arc::clone(&tried);
    queue.start_threads_by(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        starter.upgrade().unwrap().lose_thread(Some(&io::ErrorKind::WouldBlock.into()));
    });
    queue.shut();
    let calls: Vec<_> = (0..2).map(|_| call(&queue)).collect();
    calls.iter().for_each(|call| assert!(queue.push(Arc::clone(call), false).is_ok()));
    queue.open();
    assert_eq!(tried.load(Ordering::Relaxed), 2);
    assert!(calls.iter().all(|call| !call.is_wanted()), "nobody would come for them");
    // One is there and at work: it comes for what waits.
    lock(&queue.waiting).threads = 1;
    assert!(queue.push(call(&queue), false).is_ok());
    assert_eq!((tried.load(Ordering::Relaxed), queue.load().0), (3, [0, 1, 0]));
}

#[test]
fn what_tasks_leave_threads_take() {
    let queue = by_tasks(1);
    assert!(sends(&queue));
    assert!(queue.leave_to_threads() && !queue.leave_to_threads());
    assert!(queue.fetch(Instant::now()).is_none());
    assert_eq!(wait(&queue).unwrap().calls.len(), 1);
    assert!(leaves(&queue, true));
    assert_eq!(wait(&queue).unwrap().calls.len(), 1);
    queue.close();
    assert!(wait(&queue).is_none());
    assert!(queue.push(call(&queue), true).is_err_and(|fault| fault.code == Code::NotReady));
}

#[test]
fn tasks_come_back_unless_they_never_may() {
    let queue = by_tasks(1);
    assert!(queue.leave_to_threads() && leaves(&queue, true));
    assert!(queue.return_to_tasks());
    assert!(sends(&queue), "the one before it is for a thread");
    assert_eq!(queue.fetch(Instant::now()).unwrap().calls.len(), 1);
    assert_eq!(wait(&queue).unwrap().calls.len(), 1);
    assert!(queue.may_have_tasks());
    queue.keep_from_tasks();
    assert!(!queue.may_have_tasks() && !queue.return_to_tasks() && leaves(&queue, true));
}

#[test]
fn a_thread_waits_for_a_batch_only_as_long_as_its_delay() {
    let queue = Queue::new(16, 0, 1);
    queue.set(Policy { rows_max: 4, delay: Duration::from_millis(20), ..Policy::OFF }, None);
    let begun = Instant::now();
    queue.push(call(&queue), true).unwrap();
    let fetched = wait(&queue).unwrap();
    assert_eq!(fetched.reason, BatchReason::Delay);
    assert!(begun.elapsed() >= Duration::from_millis(20));
}
