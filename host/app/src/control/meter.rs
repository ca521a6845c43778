//! What this host's functions use, hour by hour, written to the store now and then and when the host stops. What a host that is killed
//! had not written yet is lost: no more than the interval's worth.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use sandmill_catalog::store::{Id, Store, StoreError};
use sandmill_domain::{FunctionName, TenantId, Usage};
use sandmill_telemetry::Telemetry;

use super::follow::Name;
use super::keys::now_ms;

const HOUR_MS: u64 = 3_600_000;

/// What was used since the host started, and how much of it was written.
pub(crate) struct Meter {
    telemetry: Arc<Telemetry>,
    /// This process's own.
    host: Id,
    book: Mutex<Book>,
    writing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Book {
    /// What the figures of each function were when they were read last.
    seen: HashMap<Name, Usage>,
    /// By hour and tenant, this host's own.
    hours: BTreeMap<(u64, TenantId), Hour>,
}

#[derive(Default)]
struct Hour {
    functions: BTreeMap<FunctionName, Usage>,
    /// Whether the store has all of it.
    written: bool,
}

impl Meter {
    pub(crate) fn new(telemetry: Arc<Telemetry>) -> Self {
        Self { telemetry, host: Id::random(), book: Mutex::default(), writing: tokio::sync::Mutex::default() }
    }

    /// Adds what came since this was asked before to the present hour. To be asked before a function's figures are forgotten.
    pub(crate) fn read(&self) {
        // First: figures that are older than those of somebody who was quicker would look as if they began anew.
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let used = self.telemetry.used();
        let hour = now_ms() / HOUR_MS;
        book.read(hour, used.into_iter().map(|(tenant, function, used)| ((tenant, function), used)).collect());
    }

    /// Figures that are forgotten begin anew, if they come again.
    pub(crate) fn forget(&self, gone: &[Name]) {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        gone.iter().for_each(|name| _ = book.seen.remove(name));
    }

    /// Writes what the store does not have yet.
    ///
    /// # Errors
    /// The first trouble; what was not written is kept for the next time.
    pub(crate) async fn write(&self, store: &Store) -> Result<(), StoreError> {
        self.write_those(store, |_| true).await
    }

    /// The same for one tenant.
    ///
    /// # Errors
    /// As [`Meter::write`].
    pub(crate) async fn write_of(&self, store: &Store, tenant: &TenantId) -> Result<(), StoreError> {
        self.write_those(store, |other| other == tenant).await
    }

    async fn write_those(&self, store: &Store, is_meant: impl Fn(&TenantId) -> bool + Send) -> Result<(), StoreError> {
        // One after the other: an earlier figure must not be written over a later one.
        let _writing = self.writing.lock().await;
        self.read();
        for ((hour, tenant), functions) in self.due().into_iter().filter(|((_, tenant), _)| is_meant(tenant)) {
            store.write_usage(&tenant, hour, self.host, functions.clone()).await?;
            self.book.lock().unwrap_or_else(PoisonError::into_inner).wrote(&(hour, tenant), &functions);
        }
        Ok(())
    }

    fn due(&self) -> Vec<((u64, TenantId), BTreeMap<FunctionName, Usage>)> {
        let book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        book.hours.iter().filter(|(_, hour)| !hour.written).map(|(key, hour)| (key.clone(), hour.functions.clone())).collect()
    }
}

impl Book {
    fn read(&mut self, hour: u64, now: HashMap<Name, Usage>) {
        for ((tenant, function), usage) in &now {
            let before = self.seen.get(&(tenant.clone(), function.clone())).copied().unwrap_or_default();
            // Figures that are smaller than they were began anew.
            let came = if usage.requests < before.requests { *usage } else { usage.since(before) };
            if came != Usage::default() {
                let hour = self.hours.entry((hour, tenant.clone())).or_default();
                let sum = hour.functions.entry(function.clone()).or_default();
                *sum = sum.and(came);
                hour.written = false;
            }
        }
        self.seen = now;
        // What is written and over is the store's alone.
        self.hours.retain(|(at, _), known| *at >= hour || !known.written);
    }

    fn wrote(&mut self, key: &(u64, TenantId), functions: &BTreeMap<FunctionName, Usage>) {
        if let Some(hour) = self.hours.get_mut(key) {
            // More may have come since.
            hour.written = hour.functions == *functions;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(function: &str) -> Name {
        (TenantId::local(), FunctionName::new(function).expect("a name"))
    }

    fn used(requests: u64) -> Usage {
        Usage { requests, plugin_us: 10 * requests, ..Usage::default() }
    }

    fn of(book: &Book, hour: u64, function: &str) -> Option<Usage> {
        book.hours.get(&(hour, TenantId::local()))?.functions.get(&name(function).1).copied()
    }

    #[test]
    fn what_comes_goes_to_its_hour_and_counts_once() {
        let mut book = Book::default();
        book.read(5, HashMap::from([(name("a"), used(3))]));
        book.read(5, HashMap::from([(name("a"), used(4)), (name("b"), used(1))]));
        assert_eq!((of(&book, 5, "a"), of(&book, 5, "b")), (Some(used(4)), Some(used(1))));
        book.read(6, HashMap::from([(name("a"), used(9)), (name("b"), used(1))]));
        assert_eq!((of(&book, 6, "a"), of(&book, 6, "b")), (Some(used(5)), None));
        // A function that was forgotten and came back counts from nothing.
        book.read(6, HashMap::from([(name("b"), used(1))]));
        book.read(6, HashMap::from([(name("a"), used(2)), (name("b"), used(1))]));
        assert_eq!(of(&book, 6, "a"), Some(used(7)));
    }

    #[test]
    fn an_hour_is_kept_until_all_of_it_is_written() {
        let mut book = Book::default();
        book.read(5, HashMap::from([(name("a"), used(3))]));
        let written = book.hours[&(5, TenantId::local())].functions.clone();
        book.read(5, HashMap::from([(name("a"), used(4))]));
        book.wrote(&(5, TenantId::local()), &written);
        book.read(6, HashMap::from([(name("a"), used(4))]));
        assert_eq!(of(&book, 5, "a"), Some(used(4)), "one request came while it was written");
        let written = book.hours[&(5, TenantId::local())].functions.clone();
        book.wrote(&(5, TenantId::local()), &written);
        book.read(6, HashMap::from([(name("a"), used(4))]));
        assert_eq!(of(&book, 5, "a"), None);
    }
}
