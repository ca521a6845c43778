//! From a file's bytes to the model's tokens, as `Magika._extract_features_from_seekable` does it. Knows no labels.

use crate::verdict::{BEGIN_SIZE, BLOCK_SIZE, END_SIZE, PADDING, SIZE_MIN};

/// How many tokens the model takes: some from the start of the file, and some from its end.
pub(crate) const TOKENS: usize = BEGIN_SIZE + END_SIZE;

/// What the model is shown of a file, if anything.
// Boxed, the tokens would cost an allocation in an instance that lives for one request.
#[allow(clippy::large_enum_variant, reason = "made once per request, and moved nowhere")]
pub(crate) enum Features<'a> {
    /// The start of the file without leading white space, padded on the right; then its end without trailing white space,
    /// padded on the left.
    Tokens([i32; TOKENS]),
    /// Not enough for the model: the bytes that must do instead, at most a block of them.
    TooShort(&'a [u8]),
}

/// Looks at one block of the file from either end.
pub(crate) fn extract(file: &[u8]) -> Features<'_> {
    let block = file.len().min(BLOCK_SIZE);
    let begin = trim_start(&file[..block]);
    if file.len() < SIZE_MIN || begin.len() < SIZE_MIN {
        return Features::TooShort(&file[..block]);
    }
    let mut tokens = [PADDING; TOKENS];
    let begin = &begin[..begin.len().min(BEGIN_SIZE)];
    fill(&mut tokens[..begin.len()], begin);
    let end = trim_end(&file[file.len() - block..]);
    let end = &end[end.len().saturating_sub(END_SIZE)..];
    fill(&mut tokens[TOKENS - end.len()..], end);
    Features::Tokens(tokens)
}

fn fill(tokens: &mut [i32], bytes: &[u8]) {
    for (token, byte) in tokens.iter_mut().zip(bytes) {
        *token = i32::from(*byte);
    }
}

fn trim_start(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|byte| !is_space(*byte)).unwrap_or(bytes.len());
    &bytes[start..]
}

fn trim_end(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|byte| !is_space(*byte)).map_or(0, |last| last + 1);
    &bytes[..end]
}

/// What Python's `bytes.strip` takes for white space: with the vertical tab, which Rust's does not count.
fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(file: &[u8]) -> ([i32; BEGIN_SIZE], [i32; END_SIZE]) {
        let Features::Tokens(tokens) = extract(file) else { panic!("{} bytes should do", file.len()) };
        (*tokens.first_chunk().unwrap(), *tokens.last_chunk().unwrap())
    }

    fn too_short(file: &[u8]) -> usize {
        let Features::TooShort(content) = extract(file) else { panic!("{} bytes should not do", file.len()) };
        content.len()
    }

    #[test]
    fn eight_bytes_are_enough_and_seven_are_not() {
        assert_eq!(too_short(b""), 0);
        assert_eq!(too_short(b"1234567"), 7);
        let (begin, end) = tokens(b"12345678");
        assert_eq!((begin[..9].to_vec(), begin[1023]), (vec![49, 50, 51, 52, 53, 54, 55, 56, 256], 256));
        assert_eq!((end[1015..].to_vec(), end[0]), (vec![256, 49, 50, 51, 52, 53, 54, 55, 56], 256));
    }

    #[test]
    fn white_space_is_taken_off_one_end_each() {
        let (begin, end) = tokens(b" \t\n\r\x0b\x0c12345678\x0b\x0c ");
        assert_eq!((begin[0], begin[8], begin[10], begin[11]), (49, 0x0b, 32, 256));
        assert_eq!((end[1023], end[1015], end[1010], end[1009]), (56, 0x0c, 32, 256));
        assert_eq!(too_short(b"   1234567"), 10);
        // What trails counts, as in the package: eight bytes from the first that is no white space.
        tokens(b"  1       ");
    }

    #[test]
    fn white_space_alone_is_too_short_however_long() {
        assert_eq!(too_short(&[b' '; 100]), 100);
        assert_eq!(too_short(&[b'\n'; 5000]), 4096);
        let mut far = vec![b' '; 4089];
        far.extend_from_slice(b"print('a')");
        assert_eq!(too_short(&far), 4096);
        far.remove(0);
        assert_eq!(tokens(&far).0[7..9], [i32::from(b'a'), 256]);
    }

    #[test]
    fn exactly_what_fits_needs_no_padding() {
        let file: Vec<u8> = (0..1024_u32).map(|n| (n % 200 + 40).to_le_bytes()[0]).collect();
        let (begin, end) = tokens(&file);
        assert_eq!(begin, end);
        assert!(begin.iter().zip(&file).all(|(token, byte)| *token == i32::from(*byte)));
        assert!(tokens(&file[1..]).0.ends_with(&[i32::from(file[1023]), 256]));
    }

    #[test]
    fn each_end_is_looked_for_in_its_own_block() {
        for length in [4096, 4097, 10_000] {
            let mut file = vec![b'.'; length];
            file[0] = b'a';
            file[length - 1] = b'z';
            let (begin, end) = tokens(&file);
            assert_eq!((begin[0], end[1023]), (97, 122), "{length}");
        }
        // The last block holds white space alone, so that nothing of the end is left.
        let mut file = vec![b'x'; 5000];
        file.resize(10_000, b' ');
        assert_eq!(tokens(&file).1, [256; END_SIZE]);
    }
}
