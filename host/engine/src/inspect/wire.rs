//! Protobuf as it lies in a file: one field after the other, without a copy. Knows nothing of ONNX.

use super::Refusal;

/// What a field holds.
#[derive(Clone, Copy)]
pub(super) enum Value<'a> {
    Number(u64),
    /// A message, a text, or a packed list.
    Bytes(&'a [u8]),
    /// Four or eight bytes, which nothing here asks for.
    Other,
}

/// Takes a message's next field off its bytes, with its number.
pub(super) fn next_field<'a>(rest: &mut &'a [u8]) -> Result<Option<(u64, Value<'a>)>, Refusal> {
    if rest.is_empty() {
        return Ok(None);
    }
    let key = varint(rest)?;
    // Protobuf cuts a longer one down to 32 bits; the number 0 is none.
    if key > u64::from(u32::MAX) || key < 8 {
        return Err(Refusal::NotProtobuf);
    }
    let value = match key & 7 {
        0 => Value::Number(varint(rest)?),
        1 => take(rest, 8).map(|_| Value::Other)?,
        2 => {
            let len = varint(rest)?;
            Value::Bytes(take(rest, len)?)
        }
        5 => take(rest, 4).map(|_| Value::Other)?,
        // A group, which ONNX has none of: the only field that could lie deep without saying how long it is.
        _ => return Err(Refusal::NotProtobuf),
    };
    Ok(Some((key >> 3, value)))
}

pub(super) fn take<'a>(rest: &mut &'a [u8], len: u64) -> Result<&'a [u8], Refusal> {
    let len = usize::try_from(len).map_err(|_| Refusal::NotProtobuf)?;
    rest.split_off(..len).ok_or(Refusal::NotProtobuf)
}

/// Seven bits a byte, the lowest first; of a tenth byte, all but the lowest bit are lost, as in protobuf.
pub(super) fn varint(rest: &mut &[u8]) -> Result<u64, Refusal> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *rest.split_off_first().ok_or(Refusal::NotProtobuf)?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(Refusal::NotProtobuf)
}

/// The texts of some of a message's fields; of one that is there twice, the last counts.
pub(super) fn texts<const N: usize>(mut rest: &[u8], numbers: [u64; N]) -> Result<[&[u8]; N], Refusal> {
    let mut found: [&[u8]; N] = [&[]; N];
    while let Some((number, value)) = next_field(&mut rest)? {
        let place = numbers.iter().position(|wanted| *wanted == number);
        if let (Some(place), Value::Bytes(text)) = (place, value) {
            found[place] = text;
        }
    }
    Ok(found)
}
