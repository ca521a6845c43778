//! What does not follow from a state, each with its text.

use std::collections::{BTreeMap, BTreeSet};

use sandmill_catalog::store::{
    BlobRef, Entry, Key, Pin, Refusal, SCHEMA, State, SystemChange, SystemState, TenantChange, TenantState,
};
use sandmill_domain::TenantId;
use sandmill_domain::control::Quotas;

use crate::fixture::{author, blob, entry, function, key, key_added, label, release_number, released, tenant};

fn plugin(version: &str, number: u128) -> TenantChange {
    TenantChange::PluginAdded { name: label("resize"), version: label(version), blob: blob(number), about: "{}".into() }
}

fn model(files: BTreeMap<String, BlobRef>) -> TenantChange {
    TenantChange::ModelAdded { name: label("digits"), version: label("1"), files, about: "{}".into() }
}

fn pinned(number: u64, pins: BTreeSet<Pin>) -> TenantChange {
    let TenantChange::Released { function, manifest, files, .. } = released("digits", number, []) else { unreachable!() };
    TenantChange::Released { function, number: release_number(number), manifest, files, pins }
}

fn with_manifest(manifest: String) -> TenantChange {
    let (files, pins) = (BTreeMap::new(), BTreeSet::new());
    TenantChange::Released { function: function("other"), number: release_number(1), manifest, files, pins }
}

fn pin(name: &str) -> BTreeSet<Pin> {
    BTreeSet::from([Pin::Plugin { name: label(name), version: label("1") }])
}

/// A plugin that release 2 of 5 was made of; the uploads 1 to 6 named, and 9 condemned.
fn state() -> TenantState {
    let mut state = TenantState::default();
    let mut changes = vec![plugin("1", 6), pinned(1, BTreeSet::new())];
    changes.extend(
        (2..=5).map(
            |number| {
                if number == 4 { pinned(4, pin("resize")) } else { released("digits", number, [blob(number.into())]) }
            },
        ),
    );
    changes.push(TenantChange::Condemned { places: [blob(9).place].into() });
    changes.push(key_added("ci"));
    for change in changes {
        state.apply(&entry(change)).expect("it follows");
    }
    state
}

#[test]
fn what_does_not_follow_is_refused_and_told() {
    let many =
        |count: usize| (0..count).map(|number| (format!("f{number}"), blob(100 + number as u128))).collect::<BTreeMap<_, _>>();
    let long = || "x".repeat(256);
    let cases = [
        (plugin("1", 7), "plugin `resize` 1 is there already"),
        (
            plugin("2", 9),
            "upload 00000000000000000000000000000009 is being deleted, or was made too long ago to be named: upload it again",
        ),
        (
            TenantChange::PluginRemoved { name: label("resize"), version: label("1") },
            "plugin `resize` 1 is in use: release 4 of `digits` is made of it",
        ),
        (TenantChange::PluginRemoved { name: label("resize"), version: label("3") }, "there is no plugin `resize` 3"),
        (TenantChange::ModelRemoved { name: label("digits"), version: label("1") }, "there is no model `digits` 1"),
        (model(BTreeMap::new()), "model `digits` does not serve: it has a file"),
        (model(many(257)), "too many files: there may be 256"),
        (model([("../x".to_owned(), blob(7))].into()), "the path `../x` does not serve: it is relative"),
        (model([(long(), blob(7))].into()), "a file's path is too long: there may be 255 bytes"),
        (released("digits", 5, []), "the next release of `digits` is 6, not 5"),
        (released("digits", 7, []), "the next release of `digits` is 6, not 7"),
        (released("other", 2, []), "the next release of `other` is 1, not 2"),
        (
            released("other", 1, [BlobRef { len: 1, ..blob(5) }]),
            "upload 00000000000000000000000000000005 has another digest or length",
        ),
        (pinned(6, pin("none")), "there is no plugin `none` 1"),
        (with_manifest("x".repeat((256 << 10) + 1)), "a manifest is too long: there may be 262144 bytes"),
        (
            TenantChange::RolledBack { function: function("digits"), to: release_number(2) },
            "release 2 of `digits` is not kept: there are 5, 4, 3",
        ),
        (
            TenantChange::RolledBack { function: function("digits"), to: release_number(5) },
            "release 5 of `digits` is the current one already",
        ),
        (TenantChange::RolledBack { function: function("other"), to: release_number(1) }, "there is no function `other`"),
        (TenantChange::FunctionDeleted { function: function("other") }, "there is no function `other`"),
        (key_added("ci"), "key `ci` is there already"),
        (TenantChange::KeyAdded(Key { scopes: BTreeSet::new(), ..key("x") }), "key `x` does not serve: it has a scope"),
        (TenantChange::KeyAdded(Key { label: long(), ..key("x") }), "a key's label is too long"),
        (TenantChange::KeyAdded(Key { label: "a\nb".into(), ..key("x") }), "a key's label does not serve: it is one line"),
        (TenantChange::KeyRevoked { id: label("x") }, "there is no key `x`"),
        (TenantChange::Condemned { places: [blob(5).place].into() }, "upload 00000000000000000000000000000005 is in use"),
        (
            TenantChange::Condemned { places: (100..1101).map(|number| blob(number).place).collect() },
            "too many uploads to delete at once: there may be 1000",
        ),
    ];
    for (change, text) in cases {
        let (mut state, before) = (state(), state());
        let told = state.apply(&entry(change)).expect_err(text).to_string();
        assert!(told.starts_with(text), "{told}");
        assert!(state == before, "{text}: nothing has changed");
    }
}

#[test]
fn a_version_stays_as_long_as_a_kept_release_is_made_of_it() {
    let mut state = TenantState::default();
    let mut apply = |change| state.apply(&entry(change)).map_err(|refusal| refusal.to_string());
    let pins = BTreeSet::from([Pin::Model { name: label("digits"), version: label("1") }]);
    let removed = || TenantChange::ModelRemoved { name: label("digits"), version: label("1") };
    assert_eq!(apply(pinned(1, pins.clone())), Err("there is no model `digits` 1".into()));
    assert_eq!(apply(model([("model.onnx".to_owned(), blob(1))].into())), Ok(()));
    assert_eq!(apply(pinned(1, pins)), Ok(()));
    for number in 2..=3 {
        assert_eq!(apply(pinned(number, BTreeSet::new())), Ok(()));
        assert_eq!(apply(removed()), Err("model `digits` 1 is in use: release 1 of `digits` is made of it".into()));
    }
    // Going back keeps it, and so does what is current.
    assert_eq!(apply(TenantChange::RolledBack { function: function("digits"), to: release_number(1) }), Ok(()));
    assert_eq!(apply(pinned(4, BTreeSet::new())), Ok(()));
    assert_eq!(apply(removed()), Err("model `digits` 1 is in use: release 1 of `digits` is made of it".into()));
    assert_eq!(apply(pinned(5, BTreeSet::new())), Ok(()));
    assert_eq!(apply(pinned(6, BTreeSet::new())), Ok(()));
    assert_eq!(apply(removed()), Ok(()));
    assert_eq!(apply(removed()), Err("there is no model `digits` 1".into()));
    assert_eq!(state.live_blobs().count(), 0, "its upload may go");
}

#[test]
fn numbers_of_a_deleted_function_do_not_come_back() {
    let mut state = state();
    state.apply(&entry(TenantChange::FunctionDeleted { function: function("digits") })).expect("deleted");
    assert_eq!(state.next_number(&function("digits")), release_number(6));
    assert!(state.apply(&entry(released("digits", 1, []))).is_err());
    state.apply(&entry(released("digits", 6, []))).expect("released anew");
    // Its plugin is free now.
    state.apply(&entry(TenantChange::PluginRemoved { name: label("resize"), version: label("1") })).expect("removed");
}

#[test]
fn a_record_of_another_schema_is_not_applied() {
    let other = Entry { v: SCHEMA + 1, ..Entry::new(&author(), key_added("x")) };
    assert!(matches!(TenantState::default().apply(&other), Err(Refusal::Malformed { .. })));
}

#[test]
fn a_tenants_name_is_given_once() {
    let mut state = SystemState::default();
    let added = |tenant: TenantId, weight| SystemChange::TenantAdded { tenant, weight, quotas: Quotas::default() };
    let mut apply = |change| state.apply(&entry(change)).map_err(|refusal| refusal.to_string());
    assert_eq!(apply(added(tenant(), 0)), Err("a tenant's weight does not serve: it is at least 1".into()));
    assert_eq!(apply(added(tenant(), 1)), Ok(()));
    assert_eq!(apply(added(tenant(), 1)), Err("tenant `acme` is there already".into()));
    let unknown = SystemChange::TenantChanged { tenant: TenantId::local(), weight: 1, quotas: Quotas::default() };
    assert_eq!(apply(unknown), Err("there is no tenant `default`".into()));
    assert_eq!(apply(SystemChange::TenantRemoved { tenant: tenant() }), Ok(()));
    assert_eq!(apply(added(tenant(), 1)), Err("the name of tenant `acme`, which was removed, is not given again".into()));
}
