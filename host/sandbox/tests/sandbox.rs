//! The sandbox from outside: good plugins, hostile ones, and what is refused at load.

mod cases;
mod guest;
mod harness;

/// Not a test of its own: it is where a child of this binary comes out that is to be the quarantine.
#[test]
fn quarantine() {
    if std::env::var_os(harness::QUARANTINE).is_some() {
        let _code = sandmill_sandbox::serve_quarantine();
        std::process::exit(0);
    }
}
