//! Numbers by which records and uploads are told apart. Knows nothing of where they are kept.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;

/// A string that is no id.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("expected 32 lower-case hexadecimal digits")]
pub struct IdError;

/// 128 bits that tell one record from all others: two writers' records of the same number are told apart by it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Id(u128);

/// Where one upload lies. Two uploads of the same bytes have two places, so that deleting one never hits the other. Begins with
/// the time, so that places can be forgotten from the oldest on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Place(u128);

fn random() -> u128 {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("invariant: the system has randomness once a process runs");
    u128::from_ne_bytes(bytes)
}

impl Id {
    /// A new one.
    pub fn random() -> Self {
        Self(random())
    }

    /// A given one.
    pub fn of(number: u128) -> Self {
        Self(number)
    }
}

impl Place {
    /// A new one, of a moment in milliseconds since 1970: 48 bits of time, then 80 of chance.
    pub fn new(now_ms: u64) -> Self {
        Self(u128::from(now_ms) << 80 | random() >> 48)
    }

    /// A given one.
    pub fn of(number: u128) -> Self {
        Self(number)
    }
}

fn parse(text: &str) -> Result<u128, IdError> {
    let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if text.len() != 32 || !text.bytes().all(lower) {
        return Err(IdError);
    }
    u128::from_str_radix(text, 16).map_err(|_| IdError)
}

/// Shown, read and written as 32 hexadecimal digits.
macro_rules! hexadecimal {
    ($($name:ident),*) => {$(
        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                parse(&text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}

hexadecimal!(Id, Place);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_shown() {
        let id = Id::random();
        assert_eq!(Id::try_from(id.to_string()), Ok(id));
        assert_ne!(id, Id::random());
        for bad in ["", "0", &"g".repeat(32), &"A".repeat(32), &format!("+{}", "0".repeat(31)), &"0".repeat(33)] {
            assert_eq!(Place::try_from(bad.to_owned()), Err(IdError), "{bad:?}");
        }
    }

    #[test]
    fn places_are_in_the_order_of_time() {
        assert!(Place::new(1) < Place::new(2));
        assert!(Place::new(1).to_string().starts_with("000000000001"));
    }
}
