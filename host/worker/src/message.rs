//! One message of bytes: its length, eight bytes little-endian, and then itself.

use std::io::{self, Read, Write};

/// Writes a message.
pub(crate) fn write(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    out.write_all(&(bytes.len() as u64).to_le_bytes())?;
    out.write_all(bytes)
}

/// Reads a message; none if it says that it is longer than `bytes_max`. Memory is taken as the bytes come, not as the length
/// promises.
pub(crate) fn read(from: &mut impl Read, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 8];
    from.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > bytes_max {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    from.take(length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == length { Ok(Some(bytes)) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_whole_or_not_at_all() {
        let mut bytes = Vec::new();
        write(&mut bytes, b"four").unwrap();
        assert_eq!(read(&mut &bytes[..], 4).unwrap().unwrap(), b"four");
        assert!(read(&mut &bytes[..], 3).unwrap().is_none());
        for cut in 0..bytes.len() {
            assert!(read(&mut &bytes[..cut], 4).is_err(), "cut at {cut}");
        }
    }
}
