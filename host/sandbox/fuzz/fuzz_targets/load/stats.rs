//! What became of the inputs, counted and told on standard error every ten seconds if `SANDMILL_FUZZ_STATS` is set.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

const PERIOD: Duration = Duration::from_secs(10);

static COUNTS: LazyLock<Option<Mutex<Counts>>> =
    LazyLock::new(|| std::env::var_os("SANDMILL_FUZZ_STATS").map(|_| Mutex::default()));

#[derive(Default)]
struct Counts {
    by_name: BTreeMap<String, u64>,
    told: Option<Instant>,
}

pub(crate) fn wanted() -> bool {
    COUNTS.is_some()
}

/// One more of `name`.
pub(crate) fn count(name: impl FnOnce() -> String) {
    let Some(counts) = &*COUNTS else { return };
    let mut counts = counts.lock().expect("no panic under the lock");
    *counts.by_name.entry(name()).or_default() += 1;
    let told = *counts.told.get_or_insert_with(Instant::now);
    if told.elapsed() > PERIOD {
        counts.told = Some(Instant::now());
        eprintln!("stats: {:?}", counts.by_name);
    }
}
