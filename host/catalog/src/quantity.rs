//! Bounded numbers as documents state them: counts, and sizes in bytes. Knows no document.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

const UNITS: [(&str, usize); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// A whole number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count<const MIN: usize, const MAX: usize>(usize);

impl<const MIN: usize, const MAX: usize> Count<MIN, MAX> {
    /// The number.
    pub fn get(self) -> usize {
        self.0
    }

    /// The number as milliseconds, for keys that end in `_ms`.
    pub fn as_millis(self) -> Duration {
        Duration::from_millis(self.0 as u64)
    }

    /// The number as seconds, for keys of seconds.
    pub fn as_secs(self) -> Duration {
        Duration::from_secs(self.0 as u64)
    }
}

impl<'de, const MIN: usize, const MAX: usize> Deserialize<'de> for Count<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The widest type, so that a number out of any range gets the message below.
        let given = i128::deserialize(deserializer)?;
        let fits = usize::try_from(given).ok().filter(|given| (MIN..=MAX).contains(given));
        fits.map(Self).ok_or_else(|| D::Error::custom(format_args!("expected an integer from {MIN} to {MAX}, found {given}")))
    }
}

/// A size from `MIN` to `MAX` bytes: an integer, or a string like `"16MiB"` with one of the units B, KiB, MiB, GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize<const MIN: usize, const MAX: usize>(usize);

impl<const MIN: usize, const MAX: usize> ByteSize<MIN, MAX> {
    /// The size in bytes.
    pub fn get(self) -> usize {
        self.0
    }

    fn check<E: Error>(given: Option<usize>, shown: impl fmt::Display) -> Result<Self, E> {
        let fits = given.filter(|given| (MIN..=MAX).contains(given));
        fits.map(Self).ok_or_else(|| E::custom(format_args!("expected {}, found {shown}", Self::expected())))
    }

    fn expected() -> String {
        format!("a size from {} to {}, such as 4096 or \"16MiB\"", show(MIN), show(MAX))
    }
}

impl<'de, const MIN: usize, const MAX: usize> Deserialize<'de> for ByteSize<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SizeVisitor)
    }
}

struct SizeVisitor<const MIN: usize, const MAX: usize>;

impl<const MIN: usize, const MAX: usize> Visitor<'_> for SizeVisitor<MIN, MAX> {
    type Value = ByteSize<MIN, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&ByteSize::<MIN, MAX>::expected())
    }

    fn visit_i64<E: Error>(self, given: i64) -> Result<Self::Value, E> {
        ByteSize::check(usize::try_from(given).ok(), given)
    }

    fn visit_u64<E: Error>(self, given: u64) -> Result<Self::Value, E> {
        ByteSize::check(usize::try_from(given).ok(), given)
    }

    fn visit_i128<E: Error>(self, given: i128) -> Result<Self::Value, E> {
        ByteSize::check(usize::try_from(given).ok(), given)
    }

    fn visit_str<E: Error>(self, given: &str) -> Result<Self::Value, E> {
        ByteSize::check(parse(given), format_args!("{given:?}"))
    }
}

fn parse(text: &str) -> Option<usize> {
    let (number, unit) = UNITS.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)))?;
    let digits = number.trim_end();
    // `parse` alone would take a leading plus.
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<usize>().ok()?.checked_mul(*unit))?
}

fn show(bytes: usize) -> String {
    let unit = UNITS.iter().find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit));
    unit.map_or_else(|| bytes.to_string(), |(name, unit)| format!("{}{name}", bytes / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        let cases = [
            ("1B", Some(1)),
            ("16MiB", Some(16 << 20)),
            ("16 MiB", Some(16 << 20)),
            ("1KiB", Some(1024)),
            ("3GiB", Some(3 << 30)),
            ("", None),
            ("16", None),
            ("MiB", None),
            ("+1MiB", None),
            ("-1MiB", None),
            ("1.5MiB", None),
            ("16MB", None),
            ("18446744073709551615GiB", None),
            ("99999999999999999999B", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }

    #[test]
    fn sizes_are_shown_in_the_largest_whole_unit() {
        for (bytes, expected) in [(0, "0"), (1, "1B"), (1025, "1025B"), (64 << 10, "64KiB"), (1 << 30, "1GiB")] {
            assert_eq!(show(bytes), expected);
        }
    }
}
