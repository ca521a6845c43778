//! Function folders as tar archives, gzip-compressed or not: packed by who sends them, unpacked by who takes them from a stranger.
//! Knows nothing of what the files are. Blocking.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use tar::{Archive, Builder, EntryType, Header};
use thiserror::Error;

use crate::FunctionSpec;

/// What may be in an archive from a stranger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveLimits {
    /// All of it unpacked, its own structure included.
    pub bytes_max: u64,
    /// Entries of any kind.
    pub entries_max: usize,
    /// Parts of one path.
    pub depth_max: usize,
}

impl Default for ArchiveLimits {
    fn default() -> Self {
        Self { bytes_max: 4 << 30, entries_max: 1024, depth_max: 8 }
    }
}

/// One part of a path, in bytes; what most file systems take.
const NAME_BYTES_MAX: usize = 255;
/// A longer name than its header has room for stands in an entry before it: some hundred bytes, which would be read at once.
const EXTENSION_BYTES_MAX: u64 = 16 << 10;

/// Why an archive was not unpacked, or not packed.
#[derive(Debug, Error)]
pub enum ArchiveError {
    /// It is no archive, or ends in the middle.
    #[error("not a whole tar archive: {0}")]
    Broken(io::Error),
    /// An entry is not what a function folder has.
    #[error("`{entry}` in the archive {what}")]
    Entry {
        /// Its path.
        entry: String,
        /// What is wrong with it, and what would be right.
        what: String,
    },
    /// It is larger than it may be.
    #[error("the archive has more than {max} {what}")]
    TooLarge {
        /// How much there may be.
        max: u64,
        /// Of what.
        what: &'static str,
    },
    /// A file of this machine made trouble.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// As the system tells it.
        #[source]
        error: io::Error,
    },
}

/// Writes the manifest and all files that it names as a gzip-compressed archive.
///
/// # Errors
/// If a file cannot be read or the archive written.
pub fn pack(spec: &FunctionSpec, into: impl Write) -> Result<(), ArchiveError> {
    let mut archive = Builder::new(GzEncoder::new(into, Compression::fast()));
    let mut append = |name: &str, len: u64, content: &mut dyn Read| {
        let mut header = Header::new_gnu();
        header.set_size(len);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, content)
    };
    append("function.toml", spec.manifest.0.len() as u64, &mut spec.manifest.0.as_bytes()).map_err(ArchiveError::Broken)?;
    for (name, file) in &spec.files {
        let trouble = |error| ArchiveError::File { path: file.path.clone(), error };
        let mut content = File::open(&file.path).map_err(trouble)?.take(file.len);
        append(name, file.len, &mut content).map_err(trouble)?;
    }
    archive.into_inner().and_then(GzEncoder::finish).map_err(ArchiveError::Broken)?;
    Ok(())
}

/// Unpacks an archive into an empty folder: plain files and folders of portable names, and nothing else.
///
/// # Errors
/// If it is no such archive, or larger than `limits`; then what the folder has is of no use. A gzip-compressed one is unpacked
/// beside itself meanwhile, with `.tar` at the end of its name.
pub fn unpack(archive: &Path, into: &Path, limits: &ArchiveLimits) -> Result<(), ArchiveError> {
    let mut file = open(archive)?;
    let mut magic = [0; 2];
    let is_compressed = file.read_exact(&mut magic).is_ok() && magic == [0x1f, 0x8b];
    if !is_compressed {
        return unpack_plain(archive, into, limits);
    }
    let plain = archive.with_added_extension("tar");
    rewind(&mut file, archive)?;
    let unpacked = decompress(&file, &plain, limits.bytes_max).and_then(|()| unpack_plain(&plain, into, limits));
    let removed = fs::remove_file(&plain).map_err(|error| ArchiveError::File { path: plain, error });
    unpacked.and(removed)
}

fn unpack_plain(archive: &Path, into: &Path, limits: &ArchiveLimits) -> Result<(), ArchiveError> {
    let mut file = open(archive)?;
    // First without believing any of it: what describes another entry is read whole by the second pass, at the size that it states.
    survey(&file, limits)?;
    rewind(&mut file, archive)?;
    extract(&file, into, limits)
}

fn open(path: &Path) -> Result<File, ArchiveError> {
    File::open(path).map_err(|error| ArchiveError::File { path: path.to_owned(), error })
}

fn rewind(file: &mut File, path: &Path) -> Result<(), ArchiveError> {
    file.seek(SeekFrom::Start(0)).map_err(|error| ArchiveError::File { path: path.to_owned(), error })?;
    Ok(())
}

fn new_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn decompress(from: &File, to: &Path, bytes_max: u64) -> Result<(), ArchiveError> {
    let trouble = |error| ArchiveError::File { path: to.to_owned(), error };
    let mut plain = new_file(to).map_err(trouble)?;
    let mut source = MultiGzDecoder::new(BufReader::new(from)).take(bytes_max.saturating_add(1));
    let mut piece = vec![0; 64 << 10];
    let mut left = bytes_max;
    loop {
        let read = source.read(&mut piece).map_err(ArchiveError::Broken)?;
        if read == 0 {
            return Ok(());
        }
        left = left.checked_sub(read as u64).ok_or(ArchiveError::TooLarge { max: bytes_max, what: "bytes unpacked" })?;
        plain.write_all(&piece[..read]).map_err(trouble)?;
    }
}

fn survey(file: &File, limits: &ArchiveLimits) -> Result<(), ArchiveError> {
    let mut archive = Archive::new(file);
    let mut left = limits.bytes_max;
    let entries = archive.entries_with_seek().map_err(ArchiveError::Broken)?.raw(true);
    for (count, entry) in entries.enumerate() {
        let entry = entry.map_err(ArchiveError::Broken)?;
        if count >= limits.entries_max {
            return Err(ArchiveError::TooLarge { max: limits.entries_max as u64, what: "entries" });
        }
        let (kind, size) = (entry.header().entry_type(), entry.size());
        let extends = kind.is_gnu_longname() || kind.is_pax_local_extensions();
        let too_large = || ArchiveError::TooLarge { max: limits.bytes_max, what: "bytes unpacked" };
        left = left.checked_sub(size).ok_or_else(too_large)?;
        if extends && size > EXTENSION_BYTES_MAX {
            return Err(refuse(&entry.path_bytes(), "has a name of more bytes than any file system takes"));
        }
        if !extends && !matches!(kind, EntryType::Regular | EntryType::Directory | EntryType::XGlobalHeader) {
            return Err(refuse(&entry.path_bytes(), "is neither a plain file nor a folder: put the file itself there"));
        }
        if kind == EntryType::XGlobalHeader && size > EXTENSION_BYTES_MAX {
            return Err(refuse(&entry.path_bytes(), "describes the archive in more bytes than that takes"));
        }
    }
    Ok(())
}

fn extract(file: &File, into: &Path, limits: &ArchiveLimits) -> Result<(), ArchiveError> {
    let mut seen = HashSet::new();
    let mut archive = Archive::new(BufReader::new(file));
    let mut left = limits.bytes_max;
    for entry in archive.entries().map_err(ArchiveError::Broken)? {
        let mut entry = entry.map_err(ArchiveError::Broken)?;
        let raw = entry.path_bytes().into_owned();
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            continue;
        }
        let Some(path) = portable(&raw, limits.depth_max)? else { continue };
        let target = into.join(&path);
        let trouble = |error: io::Error| match error.kind() {
            // The same path for a file and for a folder.
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
                refuse(&raw, "is there twice")
            }
            _ => ArchiveError::File { path: target.clone(), error },
        };
        if kind == EntryType::Directory {
            fs::create_dir_all(&target).map_err(trouble)?;
            continue;
        }
        // Twice under letters that some file systems do not tell apart is twice.
        if !seen.insert(path.to_string_lossy().to_ascii_lowercase()) {
            return Err(refuse(&raw, "is there twice"));
        }
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder).map_err(trouble)?;
        }
        // A sparse file, or a size that an extension states, is not what the header says.
        let size = entry.size();
        left = left.checked_sub(size).ok_or(ArchiveError::TooLarge { max: limits.bytes_max, what: "bytes unpacked" })?;
        let mut content = new_file(&target).map_err(trouble)?;
        let copied = io::copy(&mut (&mut entry).take(size), &mut content).map_err(trouble)?;
        if copied != size {
            return Err(ArchiveError::Broken(io::ErrorKind::UnexpectedEof.into()));
        }
    }
    Ok(())
}

/// The path, if it is one that every file system takes for the same, inside the folder; none for the folder itself.
fn portable(raw: &[u8], depth_max: usize) -> Result<Option<PathBuf>, ArchiveError> {
    let text = std::str::from_utf8(raw).map_err(|_| refuse(raw, "has a name that is not UTF-8"))?;
    let mut path = PathBuf::new();
    for part in Path::new(text).components() {
        match part {
            Component::CurDir => (),
            Component::Normal(name) => path.push(name),
            _ => return Err(refuse(raw, "leads out of the folder: paths are relative and without `..`")),
        }
        let name = part.as_os_str().as_encoded_bytes();
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-+@=, ".contains(byte);
        if name.len() > NAME_BYTES_MAX || !name.iter().all(is_plain) {
            let what = "has a name that not every system takes for the same: letters a to z, digits and ._-+@=, and spaces do";
            return Err(refuse(raw, what));
        }
    }
    match path.components().count() {
        0 => Ok(None),
        depth if depth > depth_max => Err(refuse(raw, &format!("lies deeper than {depth_max} folders"))),
        _ => Ok(Some(path)),
    }
}

fn refuse(raw: &[u8], what: &str) -> ArchiveError {
    let entry = String::from_utf8_lossy(&raw[..raw.len().min(200)]).escape_debug().to_string();
    ArchiveError::Entry { entry, what: what.to_owned() }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// An archive of these entries, as they are given: a builder would refuse some of them.
    fn archive(entries: &[(&[u8], EntryType, &[u8])]) -> Vec<u8> {
        let mut archive = Builder::new(Vec::new());
        for (name, kind, content) in entries {
            let mut header = Header::new_gnu();
            header.as_old_mut().name[..name.len()].copy_from_slice(name);
            header.set_entry_type(*kind);
            header.set_size(content.len() as u64);
            header.set_mode(0o777);
            header.set_cksum();
            archive.append(&header, *content).expect("written");
        }
        archive.into_inner().expect("written")
    }

    fn unpacked(bytes: &[u8], limits: &ArchiveLimits) -> (TempDir, Result<(), ArchiveError>) {
        let dir = tempfile::tempdir().expect("a folder");
        fs::create_dir(dir.path().join("into")).expect("made");
        fs::write(dir.path().join("upload"), bytes).expect("written");
        let result = unpack(&dir.path().join("upload"), &dir.path().join("into"), limits);
        (dir, result)
    }

    fn refusal(bytes: &[u8], limits: &ArchiveLimits) -> String {
        let (dir, result) = unpacked(bytes, limits);
        let outside: Vec<_> = fs::read_dir(dir.path()).expect("read").map(|entry| entry.expect("read").file_name()).collect();
        assert!(outside.iter().all(|name| ["into", "upload", "upload.tar"].iter().any(|known| name == known)), "{outside:?}");
        result.expect_err("a refusal").to_string()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).expect("compressed");
        encoder.finish().expect("compressed")
    }

    const FILE: EntryType = EntryType::Regular;

    /// The entries of an archive, and what is said of it.
    type Case<'a> = (&'a [(&'a [u8], EntryType, &'a [u8])], &'a str);

    #[test]
    fn what_is_packed_is_unpacked() {
        let dir = tempfile::tempdir().expect("a folder");
        let of = |name: &str| dir.path().join(name);
        fs::create_dir_all(of("sub")).expect("made");
        let manifest = "name = 'x'\nassets = ['./sub/words.txt']\n[plugin]\npath = 'p.wasm'\n";
        for (name, content) in [("function.toml", manifest), ("p.wasm", "component"), ("sub/words.txt", "a b"), ("other", "no")] {
            fs::write(of(name), content).expect("written");
        }
        let spec = crate::read_function(dir.path(), &crate::FileLimits::default()).expect("it is right");
        let mut packed = Vec::new();
        pack(&spec, &mut packed).expect("packed");
        let (there, result) = unpacked(&packed, &ArchiveLimits::default());
        result.expect("unpacked");
        let again = crate::read_function(&there.path().join("into"), &crate::FileLimits::default()).expect("it is right");
        assert_eq!(again.manifest.0, manifest);
        let digests = |spec: &FunctionSpec| spec.files.iter().map(|(name, file)| (name.clone(), file.sha256)).collect::<Vec<_>>();
        assert_eq!(digests(&again), digests(&spec));
        assert_eq!(again.files.keys().collect::<Vec<_>>(), ["p.wasm", "sub/words.txt"]);
        assert!(!there.path().join("into/other").exists(), "nobody names it");
    }

    #[test]
    fn strangers_entries_are_refused() {
        let limits = ArchiveLimits { bytes_max: 1 << 20, entries_max: 4, depth_max: 3 };
        let cases: [Case<'_>; 19] = [
            (&[(b"../x", FILE, b"1")], "leads out"),
            (&[(b"a/../../x", FILE, b"1")], "leads out"),
            (&[(b"/etc/x", FILE, b"1")], "leads out"),
            (&[(b"a\\..\\x", FILE, b"1")], "not every system"),
            (&[(b"x", EntryType::Symlink, b"")], "neither"),
            (&[(b"x", EntryType::Link, b"")], "neither"),
            (&[(b"x", EntryType::Char, b"")], "neither"),
            (&[(b"x", EntryType::Block, b"")], "neither"),
            (&[(b"x", EntryType::Fifo, b"")], "neither"),
            (&[(b"x", EntryType::GNUSparse, b"")], "neither"),
            (&[(b"x", EntryType::GNULongLink, b"y")], "neither"),
            (&[(b"x", FILE, b"1"), (b"./x", FILE, b"2")], "twice"),
            (&[(b"x", FILE, b"1"), (b"X", FILE, b"2")], "twice"),
            (&[("f\u{f6}".as_bytes(), FILE, b"1")], "not every system"),
            (&["\u{430}.onnx".as_bytes()].map(|name| (name, FILE, b"1".as_slice())), "not every system"),
            (&[(b"\xff", FILE, b"1")], "not UTF-8"),
            (&[(b"a\nb", FILE, b"1")], "not every system"),
            (&[(b"a/b/c/d", FILE, b"1")], "deeper than 3"),
            (
                &[(b"a", FILE, b""), (b"b", FILE, b""), (b"c", FILE, b""), (b"d", FILE, b""), (b"e", FILE, b"")],
                "more than 4 entries",
            ),
        ];
        for (entries, expected) in cases {
            let bytes = archive(entries);
            for bytes in [gzip(&bytes), bytes] {
                let refusal = refusal(&bytes, &limits);
                assert!(refusal.contains(expected), "{refusal} for {entries:?}");
            }
        }
    }

    #[test]
    fn bombs_and_halves_are_refused() {
        let limits = ArchiveLimits { bytes_max: 1 << 20, ..ArchiveLimits::default() };
        let zeros = vec![0; 2 << 20];
        assert!(refusal(&archive(&[(b"x", FILE, &zeros)]), &limits).contains("more than 1048576 bytes"));
        assert!(refusal(&gzip(&zeros), &limits).contains("more than 1048576 bytes"));
        let good = archive(&[(b"x", FILE, &[7; 4096])]);
        assert!(refusal(&good[..2048], &limits).contains("not a whole"), "cut in the middle");
        let packed = gzip(&good);
        assert!(refusal(&packed[..packed.len() / 2], &limits).contains("not a whole"));
        assert!(refusal(b"\x1f\x8bnot gzip", &limits).contains("not a whole"));
        assert!(refusal(&[1; 4096], &limits).contains("not a whole"));
        let long = vec![b'a'; 32 << 10];
        for kind in [EntryType::GNULongName, EntryType::XHeader, EntryType::XGlobalHeader] {
            assert!(refusal(&archive(&[(b"x", kind, &long)]), &limits).contains("more bytes"), "{kind:?}");
        }
    }

    #[test]
    fn a_size_that_another_entry_states_is_bounded_too() {
        // 1 TiB by an extension, a byte by the header.
        let record = b"22 size=1099511627776\n";
        let bytes = archive(&[(b"pax", EntryType::XHeader, record), (b"x", FILE, b"1")]);
        let (_dir, result) = unpacked(&bytes, &ArchiveLimits::default());
        assert!(result.is_err());
    }

    #[test]
    fn nothing_is_no_function_but_an_archive() {
        let (dir, result) = unpacked(&archive(&[(b"./", EntryType::Directory, b"")]), &ArchiveLimits::default());
        result.expect("unpacked");
        assert_eq!(fs::read_dir(dir.path().join("into")).expect("read").count(), 0);
    }
}
