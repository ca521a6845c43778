//! Which uploads a tenant's state names, which it named once, and which may never be named again.
//!
//! By it a collector is safe beside writers: a log has one order, so either an upload is named first, and then it cannot be
//! condemned, or it is condemned first, and then it cannot be named.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::bounds::{CONDEMNED_KEPT, CONDEMNED_MAX, at_most};
use super::refusal::Refusal;
use crate::store::{BlobRef, Place};

/// The uploads of one tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ledger {
    named: BTreeMap<Place, Named>,
    unnamed: BTreeMap<Place, Unnamed>,
    condemned: BTreeSet<Place>,
    /// Whatever is as old as this, and not known, counts as condemned: so the set above stays small.
    floor: Option<Place>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    blob: BlobRef,
    /// How often it is named.
    times: u64,
}

/// Named once and no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Unnamed {
    blob: BlobRef,
    since_ms: u64,
}

impl Ledger {
    pub(crate) fn live(&self) -> impl Iterator<Item = &BlobRef> {
        self.named.values().map(|named| &named.blob)
    }

    pub(crate) fn is_live(&self, place: Place) -> bool {
        self.named.contains_key(&place)
    }

    /// Whether it is named, or was.
    pub(crate) fn is_known(&self, place: Place) -> bool {
        self.named.contains_key(&place) || self.unnamed.contains_key(&place)
    }

    /// What was named and is no more, with the time since when.
    pub(crate) fn unnamed(&self) -> impl Iterator<Item = (&BlobRef, u64)> {
        self.unnamed.values().map(|unnamed| (&unnamed.blob, unnamed.since_ms))
    }

    /// Whether nothing can ever name it again.
    pub(crate) fn is_condemned(&self, place: Place) -> bool {
        self.condemned.contains(&place) || (!self.is_known(place) && self.floor.is_some_and(|floor| place <= floor))
    }

    /// Whether all of these may be named, beside each other and beside what is named.
    pub(super) fn check<'a>(&self, blobs: impl IntoIterator<Item = &'a BlobRef>) -> Result<(), Refusal> {
        let mut seen = BTreeMap::new();
        for blob in blobs {
            if self.is_condemned(blob.place) {
                return Err(Refusal::Condemned(blob.place));
            }
            let known = self.named.get(&blob.place).map(|named| &named.blob);
            let known = known.or_else(|| self.unnamed.get(&blob.place).map(|unnamed| &unnamed.blob));
            if [known, seen.insert(blob.place, blob)].into_iter().flatten().any(|other| other != blob) {
                return Err(Refusal::OtherBytes(blob.place));
            }
        }
        Ok(())
    }

    pub(super) fn name<'a>(&mut self, blobs: impl IntoIterator<Item = &'a BlobRef>) {
        for blob in blobs {
            self.unnamed.remove(&blob.place);
            self.named.entry(blob.place).or_insert(Named { blob: *blob, times: 0 }).times += 1;
        }
    }

    pub(super) fn unname<'a>(&mut self, blobs: impl IntoIterator<Item = &'a BlobRef>, now_ms: u64) {
        for blob in blobs {
            let Some(named) = self.named.get_mut(&blob.place) else { continue };
            named.times -= 1;
            if named.times == 0 {
                self.named.remove(&blob.place);
                self.unnamed.insert(blob.place, Unnamed { blob: *blob, since_ms: now_ms });
            }
        }
    }

    pub(super) fn condemn(&mut self, places: &BTreeSet<Place>) -> Result<(), Refusal> {
        at_most("uploads to delete at once", places.len(), CONDEMNED_MAX)?;
        if let Some(place) = places.iter().find(|place| self.is_live(**place)) {
            return Err(Refusal::InUse(*place));
        }
        for place in places {
            self.unnamed.remove(place);
            self.condemned.insert(*place);
        }
        while self.condemned.len() > CONDEMNED_KEPT {
            self.floor = self.floor.max(self.condemned.pop_first());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Digest;

    fn blob(number: u128) -> BlobRef {
        BlobRef { sha256: Digest::of(&number.to_be_bytes()), len: 16, place: Place::of(number) }
    }

    #[test]
    fn what_is_named_twice_stays_until_both_names_are_gone() {
        let mut ledger = Ledger::default();
        ledger.name([&blob(1), &blob(1)]);
        ledger.unname([&blob(1)], 5);
        assert!(ledger.is_live(Place::of(1)));
        assert_eq!(ledger.condemn(&[Place::of(1)].into()), Err(Refusal::InUse(Place::of(1))));
        ledger.unname([&blob(1)], 7);
        assert!(!ledger.is_live(Place::of(1)));
        assert_eq!(ledger.unnamed().collect::<Vec<_>>(), [(&blob(1), 7)]);
        assert_eq!(ledger.condemn(&[Place::of(1)].into()), Ok(()));
        assert_eq!(ledger.check([&blob(1)]), Err(Refusal::Condemned(Place::of(1))));
    }

    #[test]
    fn a_place_has_one_content() {
        let mut ledger = Ledger::default();
        let other = BlobRef { len: 17, ..blob(1) };
        assert_eq!(ledger.check([&blob(1), &other]), Err(Refusal::OtherBytes(Place::of(1))));
        ledger.name([&blob(1)]);
        assert_eq!(ledger.check([&other]), Err(Refusal::OtherBytes(Place::of(1))));
        ledger.unname([&blob(1)], 0);
        assert_eq!(ledger.check([&other]), Err(Refusal::OtherBytes(Place::of(1))));
    }

    #[test]
    fn what_was_condemned_long_ago_is_refused_by_its_age() {
        let mut ledger = Ledger::default();
        ledger.name([&blob(3)]);
        for first in (10..).step_by(CONDEMNED_MAX).take(CONDEMNED_KEPT / CONDEMNED_MAX + 1) {
            let places = (first..first + CONDEMNED_MAX as u128).map(Place::of).collect();
            ledger.condemn(&places).expect("not named");
        }
        assert_eq!(ledger.condemned.len(), CONDEMNED_KEPT);
        assert!(ledger.is_condemned(Place::of(10)) && ledger.is_condemned(Place::of(4)));
        assert!(!ledger.is_condemned(Place::of(3)), "it is named");
        assert!(!ledger.is_condemned(Place::of(1 << 100)));
    }
}
