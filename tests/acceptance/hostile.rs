//! Plugins that mean ill, beside one that means well: theirs is the failure, each with its own answer, and the host goes on.

use std::path::PathBuf;

use sandmill_domain::Code;
use serde_json::json;

use crate::guest;
use crate::harness::{Server, Shared, Workshop, example, run, wait_until};
use crate::hostile_guests::{ALL, BODY, Guest, Outcome, TOO_DEAR};

/// What is not the guest's to reach has its default, but for the calls, all of which a busy machine must come to in time.
const MANIFEST: &str = "[plugin]\npath = \"plugin.wasm\"\n[limits]\ntimeout_ms = 60000\nplugin_host_calls_max = 50000\n";
/// The compiler's time for guests that would take hours of it.
const HASTY: &str = "[sandbox.compile]\ntimeout_ms = 2000\n";

const LOOP: &str = "(loop $for_ever (br $for_ever)) (unreachable)";

/// The function of a guest's name.
fn function(shop: &Workshop, guest: &Guest) -> PathBuf {
    let name = guest.name.replace('_', "-");
    // Those that end for another reason must not end by their time on a busy machine.
    let (time_ms, init_time_ms) = if guest.outcome.is_timeout() { (200, 500) } else { (30_000, 30_000) };
    shop.write(&format!("{name}/plugin.wasm"), (guest.make)());
    let times = format!("plugin_time_ms = {time_ms}\nplugin_init_time_ms = {init_time_ms}\n");
    let manifest = shop.write(&format!("{name}/function.toml"), format!("{MANIFEST}{times}"));
    manifest.parent().expect("a folder").to_owned()
}

/// All hostile guests that are served at all, on one server with a neighbour.
struct Street {
    server: Server,
    _shop: Workshop,
}

static STREET: Shared<Street> = Shared::new(|| {
    let shop = Workshop::new();
    let hostile = ALL.iter().filter(|guest| is_served(guest)).map(|guest| function(&shop, guest));
    let functions: Vec<PathBuf> = hostile.chain([example("digits")]).collect();
    Street { server: Server::start(&functions), _shop: shop }
});

fn is_served(guest: &Guest) -> bool {
    !matches!(guest.outcome, Outcome::Refused(_))
}

/// The well-behaved neighbour.
fn digits_is_well(server: &Server) {
    let sample = std::fs::read(example("digits").join("sample.json")).expect("the sample");
    let answer = server.post("/fn/digits", sample);
    assert_eq!((answer.status, &answer.json()["label"]), (200, &json!(2)));
}

fn status_of(code: Code) -> u16 {
    match code {
        Code::PluginTimeout => 504,
        Code::Unprocessable => 422,
        _ => 500,
    }
}

/// Calls a hostile guest, and the neighbour as long as that is under way.
fn attack(server: &Server, guest: &Guest) {
    let path = format!("/fn/{}", guest.name.replace('_', "-"));
    let answer = std::thread::scope(|scope| {
        let attack = scope.spawn(|| server.post(&path, BODY));
        digits_is_well(server);
        while !attack.is_finished() {
            digits_is_well(server);
        }
        attack.join().expect("an answer")
    });
    match guest.outcome {
        Outcome::Fails(code, words) => {
            assert_eq!(answer.status, status_of(code), "{path}: {answer:?}");
            assert_eq!(answer.json()["code"], code.name(), "{path}");
            assert!(answer.error().contains(words), "{path}: {}", answer.error());
        }
        _ => assert_eq!(answer.status, 200, "{path}: {answer:?}"),
    }
}

#[test]
fn every_hostile_guest_is_told_and_the_neighbour_is_served() {
    let street = STREET.get();
    let mut attacks = 0;
    for guest in ALL.iter().filter(|guest| is_served(guest)) {
        attack(&street.server, guest);
        attacks += 1;
    }
    assert!(attacks >= 24, "only {attacks} guests were served");
    let log = street.server.log();
    let steers = |letter: char| letter.is_control() && letter != '\n';
    assert!(!log.contains(steers), "a guest steers the terminal of whoever reads the log");
    assert!(
        !log.lines().any(|line| line.contains("access: forged") && !line.contains("error=")),
        "a guest writes lines of its own"
    );
}

/// One for each kind of reason: every guest's own is tested with the sandbox, where no process is started for each.
const REFUSED: [&str; 15] = [
    "begins_with_4_gib",
    "core_module",
    "deep_blocks",
    "deep_components",
    "evil_names_in_a_refusal",
    "floods_the_log_in_init",
    "giant_function",
    "loops_in_init",
    "many_exports",
    "many_functions",
    "many_imports",
    "random_bytes",
    "refused_imports",
    "three_memories",
    "truncated",
];

#[test]
fn hostile_guests_that_are_refused_are_told_why() {
    let shop = Workshop::new();
    let hasty = shop.write("hasty.toml", HASTY);
    let patient = shop.write("patient.toml", "");
    for name in REFUSED {
        let guest = ALL.iter().find(|guest| guest.name == name).expect("it is listed");
        let Outcome::Refused(words) = guest.outcome else { panic!("{name} is not refused") };
        let folder = function(&shop, guest);
        let config = if words == TOO_DEAR { &hasty } else { &patient };
        let arguments = ["check", "--config", config.to_str().expect("a text"), folder.to_str().expect("a text")];
        let output = run(&arguments);
        let said = String::from_utf8(output.stderr).expect("a text");
        assert!(!output.status.success(), "{}: it is good", guest.name);
        assert!(said.contains(words), "{}: {said}", guest.name);
        assert!(!said.contains(|letter: char| letter.is_control() && letter != '\n'), "{}: {said:?}", guest.name);
        assert!(said.len() < 8 << 10, "{}: {} bytes", guest.name, said.len());
        assert!(!said.contains("a bug in sandmill"), "{}: {said}", guest.name);
    }
}

/// Twice as many loops as there are threads: the neighbour is served while every one of them still runs.
#[test]
fn loops_on_every_thread_do_not_stop_the_neighbour() {
    let street = STREET.get();
    let server = &street.server;
    let line = r#"sandmill_requests_in_flight{function="loops-in-a-call",tenant="default"}"#;
    let loops = 2 * std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..loops).map(|_| scope.spawn(|| server.post("/fn/loops-in-a-call", b"hello").status)).collect();
        let mut meanwhile = 0;
        while calls.iter().any(|call| !call.is_finished()) {
            digits_is_well(server);
            meanwhile += usize::from(server.metric(line).is_some_and(|count| count > 0.0));
        }
        assert!(meanwhile > 0, "no answer came while the loops ran");
        assert!(calls.into_iter().all(|call| call.join().expect("an answer") == 504));
    });
}

/// As many endless calls as a function may have under way, with every other limit at its default.
#[test]
fn loops_at_their_bound_do_not_stop_the_neighbour() {
    const CALLS: u32 = 64;
    let shop = Workshop::new();
    let manifest = format!("[preprocess]\npath = \"plugin.wasm\"\n[limits]\nconcurrency_max = {CALLS}\n");
    let component = guest::component("preprocessor", &guest::preprocess(LOOP));
    let server = Server::start(&[example("digits"), shop.function("loops", &manifest, Some(&component))]);
    let line = r#"sandmill_requests_in_flight{function="loops",tenant="default"}"#;
    let all_run = || server.metric(line) == Some(f64::from(CALLS));
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..CALLS).map(|_| scope.spawn(|| server.post("/fn/loops", b"hello").status)).collect();
        wait_until("every loop runs", all_run);
        assert_eq!(server.post("/fn/loops", b"hello").status, 429);
        digits_is_well(&server);
        assert!(all_run(), "the neighbour had to wait for the loops");
        while !calls.iter().all(|call| call.is_finished()) {
            digits_is_well(&server);
        }
        assert!(calls.into_iter().all(|call| call.join().expect("an answer") == 504));
    });
    digits_is_well(&server);
}

#[test]
fn memory_comes_back() {
    let street = STREET.get();
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", street.server.pid())).expect("reads");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line").to_owned();
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number")
    };
    let hogs = ALL.iter().find(|guest| guest.name == "dirties_memory").expect("it is listed");
    for _ in 0..10 {
        attack(&street.server, hogs);
    }
    let before = resident();
    for _ in 0..30 {
        attack(&street.server, hogs);
    }
    let after = resident();
    // One instance has written to 64 MiB: thirty that leaked would be 1920.
    assert!(after < before + (64 << 10), "{before} KiB before, {after} KiB after");
}
