//! Processes that are killed in the middle of uploads and changes: what they had acknowledged is there, and the store is whole.
//!
//! The child is this test's own binary; it says on its standard output what it was acknowledged, and its parent believes no more.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::{env, hint};

use sandmill_catalog::store::{Catalog, TenantState, doctor};

use crate::fixture::{Backend, bytes, change, function, key_added, label, released, tenant, upload};

/// Where the child works; nobody else is one.
const STORE: &str = "SANDMILL_TEST_CRASH_STORE";
const RUN: &str = "SANDMILL_TEST_CRASH_RUN";
const RUNS: u64 = 50;
/// Begins the lines that the parent reads among those of the test's own frame.
const ACKNOWLEDGED: &str = "acknowledged ";

#[tokio::test]
async fn what_was_acknowledged_survives_being_killed() {
    let root = tempfile::tempdir().expect("a folder");
    let mut acknowledged = Vec::new();
    for run in 0..RUNS {
        let (mut child, output) = spawn(root.path(), run);
        let lines = BufReader::new(output).lines().map(|line| line.expect("UTF-8"));
        let mut told = lines.filter_map(|line| line.split(ACKNOWLEDGED).nth(1).map(str::to_owned));
        // Killed after some changes, and some way into the next.
        acknowledged.extend((&mut told).take(usize::try_from(run % 7).expect("small")));
        (0..run * 20_000).for_each(|_| hint::spin_loop());
        child.kill().expect("killed");
        child.wait().expect("ended");
        // What it said before it died counts, too.
        acknowledged.extend(told);
        examine(root.path(), &acknowledged).await;
    }
    assert!(acknowledged.len() > 100, "the children did something: {}", acknowledged.len());
}

fn spawn(store: &Path, run: u64) -> (Child, ChildStdout) {
    let mut command = Command::new(env::current_exe().expect("known"));
    command.args(["--exact", "crash::a_child_that_will_be_killed", "--nocapture"]).env(STORE, store).env(RUN, run.to_string());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("started");
    let output = child.stdout.take().expect("piped");
    (child, output)
}

async fn examine(root: &Path, acknowledged: &[String]) {
    let catalog = Backend::Folder(root.into()).catalog().await;
    let report = doctor(catalog.store()).await.expect("read");
    assert!(report.is_clean(), "{report:?}");
    let state = catalog.snapshot().tenants[&tenant()].state.clone();
    for line in acknowledged {
        assert!(is_there(&state, line), "lost: {line}");
    }
}

fn is_there(state: &TenantState, line: &str) -> bool {
    match line.split_once(' ') {
        Some(("key", id)) => state.keys().contains_key(&label(id)),
        Some(("release", number)) => {
            let number: u64 = number.parse().expect("a number");
            state.next_number(&function("digits")).0.get() > number
        }
        _ => panic!("what is this: {line}"),
    }
}

/// Does nothing but in a child.
#[test]
fn a_child_that_will_be_killed() {
    let (Ok(store), Ok(run)) = (env::var(STORE), env::var(RUN)) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    runtime.block_on(work(Path::new(&store), run.parse().expect("a number")));
}

/// Until it is killed.
async fn work(store: &Path, run: u64) {
    let catalog = Backend::Folder(store.into()).catalog().await;
    for number in 0.. {
        let id = format!("{run}-{number}");
        change(&catalog, key_added(&id)).await;
        acknowledge(&format!("key {id}"));
        acknowledge(&format!("release {}", release(&catalog, number).await));
    }
}

/// Some uploads have one part, some have more.
async fn release(catalog: &Catalog, number: u64) -> u64 {
    let folder = tempfile::tempdir_in(env::temp_dir()).expect("a folder");
    let content = bytes(if number.is_multiple_of(2) { 1000 } else { 300_000 }, number);
    let blob = upload(catalog.store(), folder.path(), &content).await;
    let state = catalog.snapshot().tenants[&tenant()].state.clone();
    let number = state.next_number(&function("digits")).0.get();
    change(catalog, released("digits", number, [blob])).await;
    number
}

fn acknowledge(what: &str) {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{ACKNOWLEDGED}{what}").and_then(|()| output.flush()).expect("the parent listens");
}
