//! Numbers and names by which records, uploads and what is uploaded are told apart. Knows nothing of where they are kept.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;

/// The longest name of a plugin or a model, and the longest version, in bytes.
const LABEL_BYTES_MAX: usize = 63;

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

/// A string checked when it is made, and again when it is read.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(String);

/// Why a string is no label.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` does not serve: lower-case letters, digits, `.`, `_` and `-`, beginning with a letter or digit, 63 at most")]
pub struct LabelError(String);

impl Label {
    /// The name of a plugin or a model, one of their versions, or a key's id: `[a-z0-9][a-z0-9._-]{0,62}`.
    ///
    /// # Errors
    /// If the string has another form.
    pub fn new(text: impl Into<String>) -> Result<Self, LabelError> {
        let text = text.into();
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
        let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let fits = begins && text.len() <= LABEL_BYTES_MAX && text.bytes().all(allowed);
        if fits { Ok(Self(text)) } else { Err(LabelError(text.chars().take(100).collect())) }
    }

    /// The string.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Label {
    type Error = LabelError;

    fn try_from(text: String) -> Result<Self, LabelError> {
        Self::new(text)
    }
}

impl From<Label> for String {
    fn from(label: Label) -> Self {
        label.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
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

    #[test]
    fn labels_are_plain() {
        for good in ["a", "1.2.0", "yolo_v8-n", &"a".repeat(63)] {
            assert!(Label::new(good).is_ok(), "{good:?}");
        }
        for bad in ["", ".", "..", "-a", "A", "a/b", "a b", "ä", &"a".repeat(64)] {
            assert!(Label::new(bad).is_err(), "{bad:?}");
        }
    }
}
