//! Names and numbers that identify things, as newtypes that cannot be swapped. All validation of names is here.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The longest name, in bytes: a DNS label.
const NAME_BYTES_MAX: usize = 63;

/// Why a string is no name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is no valid name: lower-case letters, digits and `-`, beginning with a letter or digit, 63 at most")]
pub struct NameError(String);

fn check(name: &str) -> Result<Arc<str>, NameError> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(allowed) && !name.starts_with('-');
    if fits { Ok(name.into()) } else { Err(NameError(name.chars().take(100).collect())) }
}

/// Who owns a function: `[a-z0-9][a-z0-9-]{0,62}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TenantId(Arc<str>);

impl TenantId {
    /// Checks the name.
    ///
    /// # Errors
    /// If the string does not have the form of a name.
    pub fn new(name: &str) -> Result<Self, NameError> {
        check(name).map(Self)
    }

    /// The tenant of a host that has no others.
    pub fn local() -> Self {
        Self("default".into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for TenantId {
    type Error = NameError;

    fn try_from(name: String) -> Result<Self, NameError> {
        Self::new(&name)
    }
}

impl From<TenantId> for String {
    fn from(name: TenantId) -> Self {
        name.as_str().to_owned()
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of an endpoint within its tenant: `[a-z0-9][a-z0-9-]{0,62}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FunctionName(Arc<str>);

impl FunctionName {
    /// Checks the name.
    ///
    /// # Errors
    /// If the string does not have the form of a name.
    pub fn new(name: &str) -> Result<Self, NameError> {
        check(name).map(Self)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for FunctionName {
    type Error = NameError;

    fn try_from(name: String) -> Result<Self, NameError> {
        Self::new(&name)
    }
}

impl From<FunctionName> for String {
    fn from(name: FunctionName) -> Self {
        name.as_str().to_owned()
    }
}

impl fmt::Display for FunctionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The number of a function's release, counted from 1; in the Open Inference Protocol a model's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReleaseNumber(pub NonZeroU64);

impl ReleaseNumber {
    /// The first release of a function.
    pub const FIRST: Self = Self(NonZeroU64::MIN);

    /// The one after it; the last one that there can be is its own.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for ReleaseNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of a plugin or a model, one of their versions, or a key's id: `[a-z0-9][a-z0-9._-]{0,62}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(String);

/// Why a string is no label.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` does not serve: lower-case letters, digits, `.`, `_` and `-`, beginning with a letter or digit, 63 at most")]
pub struct LabelError(String);

impl Label {
    /// Checks the string.
    ///
    /// # Errors
    /// If it has another form.
    pub fn new(text: impl Into<String>) -> Result<Self, LabelError> {
        let text = text.into();
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
        let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let fits = begins && text.len() <= NAME_BYTES_MAX && text.bytes().all(allowed);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels() {
        let longest = "a".repeat(63);
        for good in ["a", "0", "file-type", "a-", longest.as_str()] {
            assert_eq!(FunctionName::new(good).map(|name| name.to_string()), Ok(good.to_owned()));
        }
        for bad in ["", "-a", "A", "a_b", "a/b", "a.b", "ä", "a b", &"a".repeat(64)] {
            assert!(FunctionName::new(bad).is_err(), "{bad:?} passed");
            assert!(TenantId::new(bad).is_err(), "{bad:?} passed");
        }
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
