//! A quarantine whose child is this very test binary: what it answers, and everything that it can die of.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use sandmill_worker::{Death, Program, Quarantine, QuarantineLimits, serve};

/// Set in the child's environment.
const CHILD: &str = "SANDMILL_TEST_CHILD";

/// Not a test of its own: it is where the child comes out.
#[test]
fn child() {
    if std::env::var_os(CHILD).is_some() {
        let code = serve(work);
        std::process::exit(i32::from(code != std::process::ExitCode::SUCCESS));
    }
}

fn work(job: &[u8]) -> Vec<u8> {
    match job {
        b"loop" => loop {
            std::hint::spin_loop();
        },
        b"sleep" => {
            std::thread::sleep(Duration::from_secs(600));
            Vec::new()
        }
        b"memory" => vec![1; 8 << 30],
        b"files" => {
            let files: Result<Vec<_>, _> = (0..100).map(|_| std::fs::File::open("/dev/null")).collect();
            files.expect_err("a bound on files").to_string().into_bytes()
        }
        b"panic" => panic!("at the disco"),
        b"abort" => std::process::abort(),
        b"exit" => std::process::exit(3),
        b"environment" => std::env::vars().map(|(name, _)| format!("{name} ")).collect::<String>().into_bytes(),
        _ => job.iter().rev().copied().collect(),
    }
}

fn quarantine(limits: QuarantineLimits) -> Quarantine {
    let mut program = Program::this(["--exact", "child", "--nocapture"]);
    program.env.push((OsString::from(CHILD), OsString::from("1")));
    Quarantine::new(program, limits, 2)
}

fn died(job: &[u8], limits: QuarantineLimits) -> Death {
    quarantine(limits).run(job).expect_err("no answer")
}

#[test]
fn a_child_answers_with_bytes() {
    let quarantine = quarantine(QuarantineLimits::default());
    assert_eq!(quarantine.run(b"abc").unwrap(), b"cba");
    let large: Vec<u8> = (0..3_000_000_u32).map(|at| at.to_le_bytes()[0]).collect();
    assert!(quarantine.run(&large).unwrap().iter().eq(large.iter().rev()));
    assert_eq!(quarantine.run(b"environment").unwrap(), format!("{CHILD} ").as_bytes());
    let files = String::from_utf8(quarantine.run(b"files").unwrap()).unwrap();
    assert!(files.contains("Too many open files"), "{files}");
}

#[test]
fn every_death_has_a_reason() {
    let limits = QuarantineLimits::default();
    let memory = died(b"memory", limits);
    assert!(matches!(&memory, Death::Signal { words, .. } if words.contains("memory allocation of")), "{memory}");
    let panicked = died(b"panic", limits);
    assert!(panicked.to_string().contains("at the disco"), "{panicked}");
    assert!(matches!(died(b"abort", limits), Death::Signal { signal: 6, .. }));
    let exited = died(b"exit", limits).to_string();
    assert_eq!(exited, "it ended without an answer (exit status: 3)");
    assert!(matches!(died(b"abc", QuarantineLimits { answer_bytes_max: 2, ..limits }), Death::Answer(2)));
    let none = Quarantine::new(Program { path: "/none".into(), args: vec![], env: vec![] }, limits, 1);
    assert!(matches!(none.run(b""), Err(Death::Start(_))));
}

#[test]
fn time_is_bounded_whether_it_is_spent_or_slept() {
    let second = Duration::from_secs(1);
    let limits = QuarantineLimits { cpu_time: second, wall_time: Duration::from_secs(60), ..QuarantineLimits::default() };
    let start = Instant::now();
    let looped = died(b"loop", limits);
    assert!(matches!(looped, Death::CpuTime(_)), "{looped}");
    let slept = died(b"sleep", QuarantineLimits { wall_time: Duration::from_millis(300), ..limits });
    assert!(matches!(slept, Death::Time(_)), "{slept}");
    assert!(start.elapsed() < Duration::from_secs(50));
}
