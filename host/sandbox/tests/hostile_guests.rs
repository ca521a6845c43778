//! Every hostile guest of `tests/guests` against the sandbox: the right code, the memory back, and a neighbour that is
//! answered meanwhile. One test each, made from the list: a guest without a test cannot be.

mod guest;
mod harness;
#[path = "../../../tests/guests/hostile.rs"]
mod hostile;

use std::pin::pin;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::poll;
use sandmill_domain::ports::{Plugin, Prepared};
use sandmill_domain::{Blame, Code, Fault, FunctionLimits};
use sandmill_sandbox::{LoadError, PluginOptions, Sandbox, WasmPlugin};
use tokio::runtime::Runtime;

use crate::harness::{Harness, INSTANCES, output, request, soon};
use crate::hostile::{BODY, Guest, Outcome, TOO_DEAR};

/// Not a test of its own: it is where a child of this binary comes out that is to be the quarantine.
#[test]
fn quarantine() {
    if std::env::var_os(harness::QUARANTINE).is_some() {
        let _code = sandmill_sandbox::serve_quarantine();
        std::process::exit(0);
    }
}

macro_rules! test_of {
    ($name:ident) => {
        #[test]
        fn $name() {
            attack(stringify!($name));
        }
    };
}
hostile::for_each_hostile_guest!(test_of);

/// The same guest, and as long a body: what makes it hostile is the request.
#[test]
fn a_request_without_collisions_is_answered() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let plugin = TOWN.sandbox.load(&hostile::collisions(), harness::options()).expect("it is loaded");
    let body: Vec<u8> = (0..BODY.len()).map(|at| at.to_le_bytes()[0]).collect();
    TOWN.runtime.block_on(harness::call(&plugin, &body, soon())).expect("it answers");
}

/// Of a guest that must end by it.
const PLUGIN_TIME: Duration = Duration::from_millis(40);
const INIT_TIME: Duration = Duration::from_millis(400);
/// Of all others.
const PLENTY: Duration = Duration::from_secs(60);
/// The compiler's time for guests that would take hours of it.
const COMPILER_TIME: Duration = Duration::from_secs(1);
/// A guest that takes longer to load, or to be refused, is loaded once.
const LOAD_TIME: Duration = Duration::from_secs(1);
/// A guest is called until either is reached: for most that is often enough for a page that leaks each time to be seen.
const CALLS_MAX: usize = 200;
const CALLS_TIME: Duration = Duration::from_millis(100);
/// But not less often, however long it takes.
const CALLS_MIN: usize = 2;
/// Fewer than by default, which take a second in a build like this.
const HOST_CALLS_MAX: usize = 10_000;
/// What the allocator may keep, and the pool: each of its places keeps up to 1 MiB of a memory.
const SLACK_BYTES: usize = 8 << 20;
/// More than the allocator has stores on two cores.
const ROUNDS_MAX: usize = 20;

/// One attack at a time: the memory that is measured is this process's.
static TURN: Mutex<()> = Mutex::new(());
static TOWN: LazyLock<Town> = LazyLock::new(|| Town::new(Harness::start()));
/// For guests that the compiler would be busy with for hours.
static HASTY: LazyLock<Harness> =
    LazyLock::new(|| Harness::start_with(|options| options.compiling.quarantine.wall_time = COMPILER_TIME));

/// A host with a function that means well.
struct Town {
    sandbox: Sandbox,
    neighbour: WasmPlugin,
    runtime: Runtime,
}

impl Town {
    fn new(Harness(sandbox): Harness) -> Self {
        let neighbour = sandbox.load(&hostile::good(), harness::options()).expect("the neighbour is good");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { sandbox, neighbour, runtime }
    }

    fn load(&self, guest: &Guest, component: &[u8]) -> Result<WasmPlugin, LoadError> {
        let mut limits = FunctionLimits::default();
        if guest.outcome.is_timeout() {
            (limits.plugin.time, limits.plugin.init_time) = (PLUGIN_TIME, INIT_TIME);
        } else {
            (limits.plugin.time, limits.plugin.init_time) = (PLENTY, PLENTY);
        }
        limits.plugin.host_calls_max = HOST_CALLS_MAX;
        let sandbox = if guest.outcome == Outcome::Refused(TOO_DEAR) { &HASTY.0 } else { &self.sandbox };
        sandbox.load(component, PluginOptions::new("hostile", &limits))
    }

    /// The same, on a thread of its own, while the neighbour is called.
    fn load_meanwhile(&self, guest: &Guest, component: &[u8]) -> Result<WasmPlugin, LoadError> {
        std::thread::scope(|scope| {
            let loading = scope.spawn(|| self.load(guest, component));
            self.runtime.block_on(answers(&self.neighbour));
            while !loading.is_finished() {
                self.runtime.block_on(answers(&self.neighbour));
            }
            loading.join().expect("nothing in it panics")
        })
    }

    /// Asserts that every place of the pool is free.
    fn assert_empty(&self) {
        self.runtime.block_on(async {
            let all: Vec<_> = (0..INSTANCES).map(|_| self.neighbour.open(soon())).collect();
            for place in futures_util::future::join_all(all).await {
                place.expect("a place is free");
            }
        });
    }
}

async fn answers(neighbour: &WasmPlugin) {
    let mut guest = neighbour.open(soon()).await.expect("the neighbour has a place");
    let prepared = guest.preprocess(request(b"body")).await.expect("the neighbour is answered");
    assert!(matches!(&prepared, Prepared::Tensors(tensors) if &tensors[0].data[..] == b"body"));
    let reply = guest.postprocess(&request(b"").head, vec![output(b"body")]).await.expect("the neighbour is answered");
    assert_eq!(&reply.body[..], b"body");
}

async fn call(plugin: &WasmPlugin) -> Result<(), Fault> {
    let mut guest = plugin.open(soon()).await?;
    if plugin.handles() { guest.handle(request(&BODY)).await.map(drop) } else { guest.preprocess(request(&BODY)).await.map(drop) }
}

fn attack(name: &str) {
    let guest = hostile::ALL.iter().find(|guest| guest.name == name).expect("it is listed");
    let component = (guest.make)();
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let town = &*TOWN;
    let start = Instant::now();
    let mut loaded = check_load(guest, town.load_meanwhile(guest, &component));
    if start.elapsed() < LOAD_TIME {
        unchanged("its load", || loaded = check_load(guest, town.load(guest, &component)));
    }
    if let Some(plugin) = loaded {
        unchanged("its calls", || town.runtime.block_on(calls(&plugin, &town.neighbour, guest.outcome)));
    }
    town.assert_empty();
}

fn check_load(guest: &Guest, loaded: Result<WasmPlugin, LoadError>) -> Option<WasmPlugin> {
    let Outcome::Refused(words) = guest.outcome else { return Some(loaded.expect("it is loaded")) };
    let refusal = loaded.expect_err("it is refused").to_string();
    assert!(refusal.contains(words), "{refusal}");
    assert!(refusal.len() < 4 << 10, "the refusal has {} bytes", refusal.len());
    assert!(!refusal.contains(char::is_control), "{refusal:?}");
    None
}

/// Calls it again and again; each time the neighbour is called while the guest has given way, or right after it.
async fn calls(plugin: &WasmPlugin, neighbour: &WasmPlugin, outcome: Outcome) {
    let start = Instant::now();
    let mut meanwhile = 0;
    for count in 0..CALLS_MAX {
        // On a busy machine one of those that end by their time may have had all of it before it could give way.
        let unseen = outcome.is_timeout() && meanwhile == 0;
        if count >= CALLS_MIN && start.elapsed() > CALLS_TIME && !unseen {
            break;
        }
        let mut attack = pin!(call(plugin));
        let ended = poll!(attack.as_mut());
        answers(neighbour).await;
        meanwhile += usize::from(ended.is_pending());
        let result = match ended {
            std::task::Poll::Ready(result) => result,
            std::task::Poll::Pending => attack.await,
        };
        check_call(outcome, result);
    }
    assert!(meanwhile > 0 || !outcome.is_timeout(), "nobody was served while it ran");
}

fn check_call(outcome: Outcome, result: Result<(), Fault>) {
    let Outcome::Fails(code, words) = outcome else { return result.expect("it answers") };
    let fault = result.expect_err("it fails");
    let blame = if code == Code::Unprocessable { Blame::Caller } else { Blame::Plugin };
    assert_eq!((fault.code, fault.blame), (code, blame), "{}", fault.report());
    assert!(fault.message.contains(words), "{fault}");
    for told in [&fault.message, &fault.report().to_string()] {
        assert!(!told.contains(char::is_control) && told.len() <= 16 << 10, "{told:?}");
    }
}

/// Does it once, and again: a further time takes nothing that stays. The allocator has a store for each of a few threads, and every
/// load is on a thread of its own, so that the first rounds may each fill another; what leaks, leaks in all of them.
fn unchanged(what: &str, mut work: impl FnMut()) {
    work();
    let mut grown = 0;
    for _ in 0..ROUNDS_MAX {
        let before = Footprint::now();
        work();
        let after = Footprint::now();
        assert_eq!(after.descriptors, before.descriptors, "{what}");
        grown = after.resident.saturating_sub(before.resident);
        if grown < SLACK_BYTES {
            return;
        }
    }
    panic!("{what} took {grown} bytes that did not come back, each time");
}

/// What this process holds.
struct Footprint {
    resident: usize,
    descriptors: usize,
}

impl Footprint {
    fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux has it");
        let kib: usize = line.trim().strip_suffix(" kB").and_then(|kib| kib.parse().ok()).expect("a number");
        let descriptors = std::fs::read_dir("/proc/self/fd").expect("Linux has it").count();
        Self { resident: kib << 10, descriptors }
    }
}
