//! What a well-behaved plugin notices of each hostile guest on the same host: the p99 of its calls alone, and beside the guest,
//! which must stay below twice that plus one tick.
//!
//! `cargo run --release -p sandmill-sandbox --example hostile_p99 [-- NAME…]`
//!
//! Two threads carry calls, as in the server. The good plugin gets 1 KB and gives it back, once a millisecond whether the last
//! call has ended or not, and each call counts from the moment it was due. A hostile guest that is served is called again
//! and again, one call after the other; one that is refused is loaded again and again, on a thread of its own.
#![allow(clippy::print_stdout, reason = "a table is what this program is for")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method};
use sandmill_domain::ports::{Plugin, Prepared};
use sandmill_domain::{Deadline, FunctionLimits, Request, RequestHead};
use sandmill_sandbox::{PluginOptions, Sandbox, SandboxOptions, WasmPlugin};
use tokio::runtime::Runtime;

#[path = "../tests/guest/mod.rs"]
mod guest;
#[path = "../../../tests/guests/hostile.rs"]
mod hostile;

use hostile::{BODY, Guest};

const THREADS: usize = 2;
const PERIOD: Duration = Duration::from_millis(1);
const ALONE: Duration = Duration::from_millis(1000);
const BESIDE: Duration = Duration::from_millis(2000);
/// Of a function by default.
const TIMEOUT: Duration = Duration::from_secs(10);

fn main() {
    if std::env::args().nth(1).as_deref() == Some("quarantine") {
        let _code = sandmill_sandbox::serve_quarantine();
        return;
    }
    let names: Vec<String> = std::env::args().skip(1).collect();
    let host = Host::start();
    host.measure(ALONE);
    println!("{:36} {:>10} {:>11} {:>10}  ok", "guest", "p99 alone", "p99 beside", "bound");
    let chosen = |guest: &&Guest| names.is_empty() || names.iter().any(|name| name == guest.name);
    let broken = hostile::ALL.iter().filter(chosen).filter(|guest| !host.stands(guest)).count();
    println!("{broken} of them broke the bound");
}

struct Host {
    sandbox: Sandbox,
    runtime: Runtime,
    good: WasmPlugin,
    tick: Duration,
}

impl Host {
    fn start() -> Self {
        let mut options = SandboxOptions { instances_max: 64, ..SandboxOptions::default() };
        // So that a guest which would take hours of the compiler's time is ended with its line of the table.
        options.compiling.quarantine.wall_time = BESIDE;
        let tick = options.tick;
        let sandbox = Sandbox::start(options).expect("the sandbox starts");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build();
        let good = sandbox.load(&hostile::good(), plugin_options()).expect("the good plugin loads");
        Self { sandbox, runtime: runtime.expect("a runtime"), good, tick }
    }

    /// Measures one guest, prints its line, and says whether the bound holds.
    fn stands(&self, guest: &Guest) -> bool {
        let component = (guest.make)();
        let loaded = self.sandbox.load(&component, plugin_options()).ok();
        let alone = self.measure(ALONE);
        let ended = AtomicBool::new(false);
        let beside = thread::scope(|scope| {
            scope.spawn(|| match &loaded {
                Some(plugin) => self.call(plugin, &ended),
                None => self.load(&component, &ended),
            });
            let beside = self.measure(BESIDE);
            ended.store(true, Ordering::Relaxed);
            beside
        });
        let bound = 2 * alone + self.tick;
        let stands = beside < bound;
        println!("{:36} {alone:>10.1?} {beside:>11.1?} {bound:>10.1?}  {}", guest.name, if stands { "yes" } else { "NO" });
        stands
    }

    fn call(&self, plugin: &WasmPlugin, ended: &AtomicBool) {
        while !ended.load(Ordering::Relaxed) {
            let plugin = plugin.clone();
            let call = self.runtime.spawn(async move { call(&plugin, &BODY).await });
            let _failed = self.runtime.block_on(call).expect("nothing in it panics");
        }
    }

    fn load(&self, component: &[u8], ended: &AtomicBool) {
        while !ended.load(Ordering::Relaxed) {
            let _refused = self.sandbox.load(component, plugin_options());
        }
    }

    /// The p99 of calls to the good plugin.
    fn measure(&self, time: Duration) -> Duration {
        let (sender, latencies) = channel();
        let start = Instant::now();
        let mut due = start;
        while due - start < time {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let (good, sender) = (self.good.clone(), Sender::clone(&sender));
            self.runtime.spawn(async move {
                call(&good, &[7; 1024]).await.expect("the good plugin answers");
                let _received = sender.send(due.elapsed());
            });
            due += PERIOD;
        }
        drop(sender);
        let mut latencies: Vec<Duration> = latencies.iter().collect();
        latencies.sort();
        latencies[latencies.len() * 99 / 100]
    }
}

fn plugin_options() -> PluginOptions {
    PluginOptions::new("measured", &FunctionLimits::default())
}

async fn call(plugin: &WasmPlugin, body: &'static [u8]) -> Result<(), sandmill_domain::Fault> {
    let head = RequestHead { method: Method::POST, path_rest: String::new(), query: None, headers: HeaderMap::new() };
    let request = Request { head, body: Bytes::from_static(body) };
    let head = request.head.clone();
    let mut guest = plugin.open(Deadline::after(Instant::now(), TIMEOUT).into()).await?;
    if plugin.handles() {
        return guest.handle(request).await.map(drop);
    }
    match guest.preprocess(request).await? {
        Prepared::Tensors(tensors) if plugin.postprocesses() => guest.postprocess(&head, tensors).await.map(drop),
        Prepared::Tensors(_) | Prepared::Reply(_) => Ok(()),
    }
}
