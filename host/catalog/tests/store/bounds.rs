//! As many of everything as a state may have, and not one more.

use std::collections::{BTreeMap, BTreeSet};

use sandmill_catalog::store::{Pin, Refusal, State, SystemChange, SystemState, TenantChange, TenantState};
use sandmill_domain::TenantId;
use sandmill_domain::control::Quotas;

use crate::fixture::{blob, entry, function, key, key_added, label, release_number, released};

/// The first `max` are taken, and the next is refused with that number; nothing of it is done.
fn meets<S: State + Clone + PartialEq + std::fmt::Debug>(mut state: S, max: usize, change: impl Fn(usize) -> S::Change) {
    for number in 0..max {
        state.apply(&entry(change(number))).expect("there is room");
    }
    let before = state.clone();
    let refused = state.apply(&entry(change(max))).expect_err("one too many");
    assert!(matches!(refused, Refusal::TooMany { max: told, .. } if told == max), "{refused}");
    assert!(state == before, "nothing was changed");
}

fn plugin(number: usize) -> TenantChange {
    let version = label(&format!("v{number}"));
    TenantChange::PluginAdded { name: label("resize"), version, blob: blob(1), about: "{}".into() }
}

fn release(name: &str, number: u64, manifest: String, pins: BTreeSet<Pin>) -> TenantChange {
    TenantChange::Released { function: function(name), number: release_number(number), manifest, files: BTreeMap::new(), pins }
}

#[test]
fn a_tenant_has_so_many_of_each() {
    let empty = TenantState::default;
    meets(empty(), 1000, |number| released(&format!("f{number}"), 1, []));
    meets(empty(), 1000, plugin);
    meets(empty(), 1000, |number| TenantChange::ModelAdded {
        name: label("digits"),
        version: label(&format!("v{number}")),
        files: BTreeMap::from([("model.onnx".to_owned(), blob(1))]),
        about: "{}".into(),
    });
    meets(empty(), 1000, |number| key_added(&format!("k{number}")));
}

#[test]
fn operators_have_so_many_keys_and_tenants() {
    meets(SystemState::default(), 1000, |number| SystemChange::KeyAdded(key(&format!("k{number}"))));
    let name = |number: usize| TenantId::new(&format!("t{number}")).expect("a name");
    let added = |number| SystemChange::TenantAdded { tenant: name(number), weight: 1, quotas: Quotas::default() };
    meets(SystemState::default(), 10_000, added);
    // One that was removed takes its place for ever.
    let mut state = SystemState::default();
    for number in 0..10_000 {
        state.apply(&entry(added(number))).expect("there is room");
    }
    state.apply(&entry(SystemChange::TenantRemoved { tenant: name(7) })).expect("it is there");
    assert!(matches!(state.apply(&entry(added(10_000))), Err(Refusal::TooMany { max: 10_000, .. })));
}

#[test]
fn names_of_functions_that_are_gone_count() {
    let mut state = TenantState::default();
    for number in 0..10_000 {
        let name = format!("f{number}");
        state.apply(&entry(released(&name, 1, []))).expect("there is room");
        state.apply(&entry(TenantChange::FunctionDeleted { function: function(&name) })).expect("it is there");
    }
    let refused = state.apply(&entry(released("one-more", 1, []))).expect_err("one too many");
    assert!(matches!(refused, Refusal::TooMany { max: 10_000, .. }), "{refused}");
    state.apply(&entry(released("f7", 2, []))).expect("a name that was there before");
}

#[test]
fn a_release_is_made_of_so_much() {
    let mut state = TenantState::default();
    for number in 0..65 {
        state.apply(&entry(plugin(number))).expect("there is room");
    }
    let pins = |count: usize| {
        let pin = |number| Pin::Plugin { name: label("resize"), version: label(&format!("v{number}")) };
        (0..count).map(pin).collect()
    };
    let refused = state.apply(&entry(release("f", 1, String::new(), pins(65)))).expect_err("one too many");
    assert!(matches!(refused, Refusal::TooMany { max: 64, .. }), "{refused}");
    state.apply(&entry(release("f", 1, String::new(), pins(64)))).expect("as many as there may be");
    // Of all manifests together 16 MiB, each of at most 256 KiB.
    let full = || "#".repeat(256 << 10);
    for number in 0..64 {
        state.apply(&entry(release(&format!("m{number}"), 1, full(), BTreeSet::new()))).expect("there is room");
    }
    let refused = state.apply(&entry(release("one-more", 1, "#".to_owned(), BTreeSet::new()))).expect_err("a byte too many");
    assert!(refused.to_string().contains(&(16 << 20).to_string()), "{refused}");
}

#[test]
fn a_record_condemns_so_many() {
    let places = |count: u128| (1..=count).map(|number| blob(number).place).collect();
    let mut state = TenantState::default();
    let refused = state.apply(&entry(TenantChange::Condemned { places: places(1001) })).expect_err("one too many");
    assert!(matches!(refused, Refusal::TooMany { max: 1000, .. }), "{refused}");
    state.apply(&entry(TenantChange::Condemned { places: places(1000) })).expect("as many as there may be");
}
