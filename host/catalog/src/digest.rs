//! SHA-256 digests, by which contents are addressed and pinned. Knows nothing of files.

use std::fmt;
use std::io::{self, Read};

use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;

/// The SHA-256 of some bytes; shown as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Digest([u8; 32]);

/// A string that is no digest.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("expected a SHA-256: 64 hexadecimal digits")]
pub struct DigestError;

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(<sha2::Sha256 as sha2::Digest>::digest(bytes).into())
    }

    /// The digest of all that can be read, and how many bytes that is; in constant memory.
    ///
    /// # Errors
    /// If it cannot be read to its end.
    pub fn read(mut from: impl Read) -> io::Result<(Self, u64)> {
        let (mut hasher, mut piece, mut len) = (<sha2::Sha256 as sha2::Digest>::new(), vec![0; 64 << 10], 0);
        loop {
            match from.read(&mut piece)? {
                0 => return Ok((Self(sha2::Digest::finalize(hasher).into()), len)),
                read => {
                    sha2::Digest::update(&mut hasher, &piece[..read]);
                    len += read as u64;
                }
            }
        }
    }

    /// What was computed elsewhere, piece by piece.
    pub(crate) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The digest itself.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != 32 || !rest.is_empty() {
            return Err(DigestError);
        }
        let mut bytes = [0; 32];
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = nibble(*high)? << 4 | nibble(*low)?;
        }
        Ok(Self(bytes))
    }
}

fn nibble(digit: u8) -> Result<u8, DigestError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(DigestError),
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // FIPS 180-2, appendix B.1.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn digests_are_read_and_shown() {
        assert_eq!(Digest::of(b"abc").to_string(), ABC);
        assert_eq!(Digest::try_from(ABC.to_owned()), Ok(Digest::of(b"abc")));
        assert_eq!(Digest::try_from(ABC.to_uppercase()), Ok(Digest::of(b"abc")));
        for bad in ["", &ABC[1..], &ABC[2..], &format!("{ABC}0"), &format!("{ABC}00"), &ABC.replace('b', "g"), &"ä".repeat(32)] {
            assert_eq!(Digest::try_from(bad.to_owned()), Err(DigestError), "{bad:?}");
        }
    }

    #[test]
    fn a_stream_has_the_digest_of_its_bytes() {
        let bytes: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        assert_eq!(Digest::read(&bytes[..]).expect("read"), (Digest::of(&bytes), 800_000));
        assert_eq!(Digest::read(&b""[..]).expect("read"), (Digest::of(b""), 0));
    }
}
