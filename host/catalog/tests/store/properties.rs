//! What holds of a tenant's state, whatever changes are asked for, in whatever order.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;
use sandmill_catalog::store::{BlobRef, Entry, Id, Pin, Place, State, TenantChange, TenantState};
use sandmill_domain::ReleaseNumber;

use crate::fixture::{author_at, blob, function, key, label};

/// Few of everything, so that changes meet.
#[derive(Clone, Debug)]
enum Wish {
    AddPlugin(u8, u8, u8),
    RemovePlugin(u8, u8),
    AddModel(u8, u8, Vec<u8>),
    RemoveModel(u8, u8),
    /// A function, by how much its number is off, its files, a plugin and a model.
    Release(u8, i8, Vec<u8>, Option<(u8, u8)>, Option<(u8, u8)>),
    RollBack(u8, u64),
    Delete(u8),
    AddKey(u8),
    RevokeKey(u8),
    Condemn(Vec<u8>),
}

fn wish() -> impl Strategy<Value = Wish> {
    let (few, blobs) = (0..3_u8, 0..12_u8);
    let off = prop_oneof![8 => Just(0_i8), 1 => -2..=2_i8];
    let pin = prop::option::of((few.clone(), few.clone()));
    prop_oneof![
        2 => (few.clone(), few.clone(), blobs.clone()).prop_map(|(a, b, c)| Wish::AddPlugin(a, b, c)),
        1 => (few.clone(), few.clone()).prop_map(|(a, b)| Wish::RemovePlugin(a, b)),
        2 => (few.clone(), few.clone(), vec(blobs.clone(), 0..3)).prop_map(|(a, b, c)| Wish::AddModel(a, b, c)),
        1 => (few.clone(), few.clone()).prop_map(|(a, b)| Wish::RemoveModel(a, b)),
        6 => (few.clone(), off, vec(blobs.clone(), 0..3), pin.clone(), pin).prop_map(|(a, b, c, d, e)| Wish::Release(a, b, c, d, e)),
        3 => (few.clone(), 1..8_u64).prop_map(|(a, b)| Wish::RollBack(a, b)),
        1 => few.clone().prop_map(Wish::Delete),
        1 => few.clone().prop_map(Wish::AddKey),
        1 => few.prop_map(Wish::RevokeKey),
        2 => vec(blobs, 1..4).prop_map(Wish::Condemn),
    ]
}

fn name(number: u8) -> sandmill_domain::Label {
    label(&format!("n{number}"))
}

fn files(numbers: &[u8]) -> BTreeMap<String, BlobRef> {
    numbers.iter().enumerate().map(|(at, number)| (format!("f{at}"), blob(u128::from(*number)))).collect()
}

fn change(state: &TenantState, wish: Wish) -> TenantChange {
    let pin = |make: fn(_, _) -> Pin, of: Option<(u8, u8)>| of.map(|(a, b)| make(name(a), name(b)));
    match wish {
        Wish::AddPlugin(a, b, c) => {
            TenantChange::PluginAdded { name: name(a), version: name(b), blob: blob(c.into()), about: "{}".into() }
        }
        Wish::RemovePlugin(a, b) => TenantChange::PluginRemoved { name: name(a), version: name(b) },
        Wish::AddModel(a, b, c) => {
            TenantChange::ModelAdded { name: name(a), version: name(b), files: files(&c), about: "{}".into() }
        }
        Wish::RemoveModel(a, b) => TenantChange::ModelRemoved { name: name(a), version: name(b) },
        Wish::Release(a, off, c, plugin, model) => {
            let function = function(&format!("f{a}"));
            let number = state.next_number(&function).0.get().saturating_add_signed(off.into()).max(1);
            let plugin = pin(|name, version| Pin::Plugin { name, version }, plugin);
            let model = pin(|name, version| Pin::Model { name, version }, model);
            let pins = plugin.into_iter().chain(model).collect();
            let number = crate::fixture::release_number(number);
            TenantChange::Released { function, number, manifest: format!("{number}"), files: files(&c), pins }
        }
        Wish::RollBack(a, to) => {
            TenantChange::RolledBack { function: function(&format!("f{a}")), to: crate::fixture::release_number(to) }
        }
        Wish::Delete(a) => TenantChange::FunctionDeleted { function: function(&format!("f{a}")) },
        Wish::AddKey(a) => TenantChange::KeyAdded(key(&format!("k{a}"))),
        Wish::RevokeKey(a) => TenantChange::KeyRevoked { id: label(&format!("k{a}")) },
        Wish::Condemn(places) => {
            TenantChange::Condemned { places: places.iter().map(|number| Place::of((*number).into())).collect() }
        }
    }
}

/// Everything that the state names, counted anew.
fn named(state: &TenantState) -> BTreeSet<BlobRef> {
    let releases = state.functions().values().flat_map(|function| function.kept());
    let plugins = state.plugins().values().flat_map(BTreeMap::values).map(|plugin| plugin.blob);
    let models = state.models().values().flat_map(BTreeMap::values).flat_map(|model| model.files.values().copied());
    releases.flat_map(|release| release.files.values().copied()).chain(plugins).chain(models).collect()
}

fn holds(state: &TenantState, condemned: &BTreeSet<Place>) {
    let named = named(state);
    assert_eq!(state.live_blobs().copied().collect::<BTreeSet<_>>(), named);
    assert!(named.iter().all(|blob| !condemned.contains(&blob.place)), "something condemned is named");
    for (name, function) in state.functions() {
        let kept: Vec<ReleaseNumber> = function.kept().map(|release| release.number).collect();
        assert!((1..=3).contains(&kept.len()), "{kept:?}");
        assert_eq!(kept.iter().collect::<BTreeSet<_>>().len(), kept.len(), "each once");
        assert!(kept.iter().all(|number| *number < state.next_number(name)));
        for pin in function.kept().flat_map(|release| &release.pins) {
            let there = match pin {
                Pin::Plugin { name, version } => state.plugins().get(name).is_some_and(|all| all.contains_key(version)),
                Pin::Model { name, version } => state.models().get(name).is_some_and(|all| all.contains_key(version)),
            };
            assert!(there, "{pin:?} is gone, and a kept release is made of it");
        }
    }
}

/// What is expected of the releases that are kept, kept by hand.
#[derive(Default)]
struct Expected {
    current: BTreeMap<String, Vec<u64>>,
    given: BTreeSet<(String, u64)>,
    condemned: BTreeSet<Place>,
}

impl Expected {
    fn note(&mut self, change: &TenantChange) {
        match change {
            TenantChange::Released { function, number, .. } => {
                let fresh = self.given.insert((function.to_string(), number.0.get()));
                assert!(fresh, "a number comes once");
                self.make_current(function.as_str(), number.0.get());
            }
            TenantChange::RolledBack { function, to } => self.make_current(function.as_str(), to.0.get()),
            TenantChange::FunctionDeleted { function } => drop(self.current.remove(function.as_str())),
            TenantChange::Condemned { places } => self.condemned.extend(places),
            _ => {}
        }
    }

    fn make_current(&mut self, function: &str, number: u64) {
        let kept = self.current.entry(function.to_owned()).or_default();
        kept.retain(|other| *other != number);
        kept.insert(0, number);
        kept.truncate(3);
    }

    fn kept(state: &TenantState) -> BTreeMap<String, Vec<u64>> {
        let numbers = |function: &sandmill_catalog::store::Function| function.kept().map(|one| one.number.0.get()).collect();
        state.functions().iter().map(|(name, function)| (name.to_string(), numbers(function))).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_state_is_sound_after_any_changes(wishes in vec(wish(), 0..80)) {
        let mut state = TenantState::default();
        let mut expected = Expected::default();
        for (at_ms, wish) in (0..).zip(wishes) {
            let entry = Entry { id: Id::of(u128::from(at_ms)), ..Entry::new(&author_at(at_ms), change(&state, wish)) };
            let before = state.clone();
            match state.apply(&entry) {
                Ok(()) => expected.note(&entry.change),
                Err(refusal) => assert_eq!(before, state, "{refusal}"),
            }
            holds(&state, &expected.condemned);
            assert_eq!(Expected::kept(&state), expected.current);
        }
        let json = serde_json::to_string(&state).expect("written");
        assert_eq!(serde_json::from_str::<TenantState>(&json).expect("read"), state, "a checkpoint loses nothing");
    }

    #[test]
    fn no_bytes_make_a_record_that_panics(bytes in vec(any::<u8>(), 0..200)) {
        let _ = serde_json::from_slice::<Entry<TenantChange>>(&bytes);
        let _ = serde_json::from_slice::<TenantState>(&bytes);
    }
}
