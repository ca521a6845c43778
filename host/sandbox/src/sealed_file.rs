//! Files under a seal, with holes where there is nothing but zeros: compiled code holds an image of memory, most of which is free
//! heap. A hole takes no disk, no memory of the page cache, and no time to seal. Knows no names and no folders.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use hmac::{Hmac, KeyInit, Mac};
use rustix::io::Errno;
use sha2::Sha256;

/// The seal is over blocks of this size, and a hole is at least as large: a page of the processor's and of most file systems.
const BLOCK_BYTES: usize = 4 << 10;
/// What is read at once; a multiple of a block.
const CHUNK_BYTES: usize = 64 * BLOCK_BYTES;
pub(crate) const SEAL_BYTES: usize = 32;

/// HMAC-SHA256 over the blocks of a file: each as a one and itself, or as a zero if it holds nothing else. The last may be shorter.
struct Seal {
    mac: Hmac<Sha256>,
    begun: Vec<u8>,
}

impl Seal {
    /// A seal under a key, of something that begins with the parts of `context`, each of one length for all files.
    fn new(key: &[u8], context: &[&[u8]]) -> Self {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("invariant: any length is a key");
        context.iter().for_each(|part| mac.update(part));
        Self { mac, begun: Vec::with_capacity(BLOCK_BYTES) }
    }

    /// Whether the block is nothing but zeros.
    fn block(&mut self, block: &[u8]) -> bool {
        let empty = block.len() == BLOCK_BYTES && block.iter().all(|byte| *byte == 0);
        self.mac.update(&[u8::from(!empty)]);
        if !empty {
            self.mac.update(block);
        }
        empty
    }

    fn empty_blocks(&mut self, count: u64) {
        (0..count).for_each(|_| self.mac.update(&[0]));
    }
}

/// Writes the parts one after the other, and the seal behind them, to an empty file.
pub(crate) fn write(mut file: &File, key: &[u8], context: &[&[u8]], parts: &[&[u8]]) -> io::Result<()> {
    let mut seal = Seal::new(key, context);
    let mut put = |seal: &mut Seal, block: &[u8]| -> io::Result<()> {
        if seal.block(block) { file.seek(SeekFrom::Current(BLOCK_BYTES as i64)).map(drop) } else { file.write_all(block) }
    };
    for part in parts {
        let mut rest = *part;
        while !rest.is_empty() {
            let (taken, left) = rest.split_at(rest.len().min(BLOCK_BYTES - seal.begun.len()));
            seal.begun.extend_from_slice(taken);
            rest = left;
            if seal.begun.len() == BLOCK_BYTES {
                let block = std::mem::take(&mut seal.begun);
                put(&mut seal, &block)?;
                seal.begun = block;
                seal.begun.clear();
            }
        }
    }
    let last = std::mem::take(&mut seal.begun);
    if !last.is_empty() {
        put(&mut seal, &last)?;
    }
    // Also ends a hole that nothing else follows.
    file.write_all(&seal.mac.finalize().into_bytes())
}

/// Whether the first `sealed` bytes are followed by their seal. Holes are not read.
pub(crate) fn check(file: &File, key: &[u8], context: &[&[u8]], sealed: u64) -> io::Result<bool> {
    let mut seal = Seal::new(key, context);
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut at = 0;
    while at < sealed {
        let (data, end) = next_data(file, at, sealed)?;
        seal.empty_blocks((data - at) / BLOCK_BYTES as u64);
        at = data;
        while at < end {
            let length = usize::try_from((sealed - at).min(CHUNK_BYTES as u64)).unwrap_or(CHUNK_BYTES);
            file.read_exact_at(&mut chunk[..length], at)?;
            for block in chunk[..length].chunks(BLOCK_BYTES) {
                seal.block(block);
            }
            at += length as u64;
        }
    }
    let mut expected = [0; SEAL_BYTES];
    file.read_exact_at(&mut expected, sealed)?;
    Ok(seal.mac.verify_slice(&expected).is_ok())
}

/// From where, in whole blocks, there is something to read at or after `at`, and to where at least.
fn next_data(file: &File, at: u64, sealed: u64) -> io::Result<(u64, u64)> {
    let whole = |offset: u64| offset - offset % BLOCK_BYTES as u64;
    let data = match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(at)) {
        Ok(data) => data,
        // Nothing but a hole, which cannot be: the seal is behind it.
        Err(Errno::NXIO) => return Ok((at, sealed)),
        Err(error) => return Err(error.into()),
    };
    // The last block may be shorter, and is never passed over.
    let data = whole(data).min(whole(sealed.saturating_sub(1))).max(at);
    let end = rustix::fs::seek(file, rustix::fs::SeekFrom::Hole(data))?;
    Ok((data, end.min(sealed).max(data + 1)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    const CONTEXT: [&[u8]; 2] = [b"form", b"key"];

    fn written(parts: &[&[u8]]) -> (File, u64) {
        let file = tempfile::tempfile().unwrap();
        write(&file, b"secret", &CONTEXT, parts).unwrap();
        let sealed = file.metadata().unwrap().len() - SEAL_BYTES as u64;
        assert_eq!(sealed, parts.iter().map(|part| part.len() as u64).sum::<u64>());
        (file, sealed)
    }

    fn is_good(file: &File, sealed: u64) -> bool {
        check(file, b"secret", &CONTEXT, sealed).unwrap()
    }

    #[test]
    fn files_of_any_shape_are_sealed() {
        let zeros = vec![0; 40 * BLOCK_BYTES];
        let some = vec![7; BLOCK_BYTES + 1];
        let shapes: [&[&[u8]]; 8] = [
            &[],
            &[b"x"],
            &[&zeros],
            &[&zeros, b"x"],
            &[b"x", &zeros],
            &[&some, &zeros, &some, &zeros],
            &[&zeros[..100], &zeros[..5000]],
            &[&zeros[..BLOCK_BYTES], &some[..BLOCK_BYTES], &zeros[..BLOCK_BYTES]],
        ];
        for (at, parts) in shapes.into_iter().enumerate() {
            let (file, sealed) = written(parts);
            assert!(is_good(&file, sealed), "shape {at}");
            let mut content = vec![0; usize::try_from(sealed).unwrap()];
            file.read_exact_at(&mut content, 0).unwrap();
            assert!(content == parts.concat(), "shape {at}: other bytes");
            assert!(!check(&file, b"other", &CONTEXT, sealed).unwrap());
            assert!(!check(&file, b"secret", &[b"form", b"kez"], sealed).unwrap());
        }
    }

    #[test]
    fn zeros_take_no_room_and_are_sealed_all_the_same() {
        let zeros = vec![0; 1 << 20];
        let (file, sealed) = written(&[b"head", &zeros, b"tail"]);
        assert!(file.metadata().unwrap().blocks() * 512 < 64 << 10, "the zeros were written");
        for at in [4, 5, 500_000, sealed - 5] {
            file.write_all_at(&[1], at).unwrap();
            assert!(!is_good(&file, sealed), "byte {at} was changed");
            file.write_all_at(&[0], at).unwrap();
            assert!(is_good(&file, sealed), "zeros that are written are as good as a hole");
        }
    }
}
