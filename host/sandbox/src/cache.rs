//! Compiled components on disk, in a folder that only this user can enter, each sealed with a key that lies elsewhere. Knows
//! files and seals, not wasmtime.
//!
//! A file is what was kept, a note on it, the note's length and the seal of all that (`sealed_file`). It is written under another name, synced,
//! renamed and never changed; what is wrong with one is a line in the log, and it is made anew.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::options::CacheOptions;
use crate::seal_key::{SealKey, SealKeyError};
use crate::sealed_file::{self, SEAL_BYTES};

/// Stands in every seal; to be changed with the form of the files.
const FORM: &[u8; 8] = b"smcode\x00\x03";
const DIGEST_BYTES: usize = 32;
/// The note's length, and the seal.
const TAIL_BYTES: usize = 4 + SEAL_BYTES;
/// The longest note.
const NOTE_BYTES_MAX: usize = 64 << 10;
/// Group and others.
pub(crate) const NOT_OURS: u32 = 0o077;

/// Why a folder is not used as a cache.
#[derive(Debug, Error)]
pub enum CacheError {
    /// It cannot be made or opened.
    #[error("the cache folder {} cannot be opened", folder.display())]
    Open {
        /// The folder.
        folder: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is another user's.
    #[error("the cache folder {} belongs to user {owner}, not to user {user}: what lies in it is run as native code", folder.display())]
    Foreign {
        /// The folder.
        folder: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        user: u32,
    },
    /// Others can enter it.
    #[error("the cache folder {} is open to others (mode {mode:o}): what lies in it is run as native code; `chmod 700` it", folder.display())]
    Exposed {
        /// The folder.
        folder: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The key lies where the files do.
    #[error("the key of the cache, {}, lies in the cache's own folder: keep it elsewhere", key.display())]
    KeyInside {
        /// The key's file.
        key: PathBuf,
    },
    /// The key cannot be used.
    #[error(transparent)]
    Key(#[from] SealKeyError),
}

/// Which compiled code: one job under one set of settings.
pub(crate) struct Key {
    digest: [u8; DIGEST_BYTES],
}

/// A file that this user's host wrote for the key that it was found by, sealed and unchanged when it was read.
pub(crate) struct Trusted {
    file: File,
    note: Vec<u8>,
}

/// The folder, held open, so that a path that is changed later leads nobody elsewhere.
pub(crate) struct Cache {
    folder: OwnedFd,
    key: SealKey,
    bytes_max: u64,
}

impl Key {
    pub(crate) fn new(owner: &str, job: &[u8], settings: [u8; DIGEST_BYTES]) -> Self {
        let digest = Sha256::new().chain_update(settings).chain_update(Sha256::digest(owner)).chain_update(job).finalize();
        Self { digest: digest.into() }
    }

    fn file_name(&self) -> String {
        self.digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Trusted {
    /// The open file; what was kept stands at its start.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// What was noted of it.
    pub(crate) fn note(&self) -> &[u8] {
        &self.note
    }
}

impl Cache {
    /// Opens the folder, making it if need be, and reads its key.
    ///
    /// # Errors
    /// If it cannot be made, is another user's, or lets others in; or if that is so of the key.
    pub(crate) fn open(options: &CacheOptions) -> Result<Self, CacheError> {
        let folder = &options.folder;
        let failed = |source: io::Error| CacheError::Open { folder: folder.into(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        let handle = rustix::fs::open(folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| failed(error.into()))?;
        let stat = rustix::fs::fstat(&handle).map_err(|error| failed(error.into()))?;
        let user = rustix::process::geteuid().as_raw();
        if stat.st_uid != user {
            return Err(CacheError::Foreign { folder: folder.into(), owner: stat.st_uid, user });
        }
        let mode = stat.st_mode & 0o7777;
        if mode & NOT_OURS != 0 {
            return Err(CacheError::Exposed { folder: folder.into(), mode });
        }
        check_key_lies_outside(folder, &options.key)?;
        let key = SealKey::open(&options.key)?;
        Ok(Self { folder: handle, key, bytes_max: options.bytes_max })
    }

    /// What is kept under a key; none if there is nothing, or the file is not what was written.
    pub(crate) fn read(&self, key: &Key) -> Option<Trusted> {
        let name = key.file_name();
        match self.read_file(&name, key) {
            Ok(Some(trusted)) => Some(trusted),
            Ok(None) => {
                tracing::warn!(file = name, "a file of the plugin cache is damaged or not ours, compiling anew");
                None
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(file = name, "a file of the plugin cache cannot be read, compiling anew: {error}");
                None
            }
        }
    }

    /// Keeps code and a note under a key, whole or not at all, then makes room; what fails is a line in the log.
    pub(crate) fn write(&self, key: &Key, code: &[u8], note: &[u8]) {
        let name = key.file_name();
        let bytes = code.len() + note.len() + TAIL_BYTES;
        if note.len() > NOTE_BYTES_MAX || u64::try_from(bytes).is_ok_and(|bytes| bytes > self.bytes_max) {
            return;
        }
        let kept = self.write_file(&name, key, code, note).and_then(|()| self.make_room(&name));
        if let Err(error) = kept {
            tracing::warn!(file = name, "compiled code is not kept in the plugin cache: {error}");
        }
    }

    fn read_file(&self, name: &str, key: &Key) -> io::Result<Option<Trusted>> {
        // Without waiting for the other end of what turns out to be a pipe.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(&self.folder, name, flags, Mode::empty())?);
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("no regular file"));
        }
        let sealed = metadata.len().checked_sub(SEAL_BYTES as u64).filter(|_| metadata.len() <= self.bytes_max);
        let Some(sealed) = sealed else { return Ok(None) };
        if !sealed_file::check(&file, self.key.bytes(), &[FORM, &key.digest], sealed)? {
            return Ok(None);
        }
        Ok(Some(Trusted { note: note_of(&file, sealed)?, file }))
    }

    fn write_file(&self, name: &str, key: &Key, code: &[u8], note: &[u8]) -> io::Result<()> {
        // Two containers on one folder may have the same process number.
        let number = getrandom::u64().map_err(io::Error::other)?;
        let temporary = format!("{name}.{}.{number}", std::process::id());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(&self.folder, &temporary, flags, Mode::RUSR | Mode::WUSR)?);
        let length = u32::try_from(note.len()).map_err(io::Error::other)?.to_le_bytes();
        let write = || {
            sealed_file::write(&file, self.key.bytes(), &[FORM, &key.digest], &[code, note, &length])?;
            file.sync_all()?;
            Ok(rustix::fs::renameat(&self.folder, &temporary, &self.folder, name)?)
        };
        write().inspect_err(|_failed| {
            // Best effort: if it stays, it is among the oldest files one day.
            let _gone = rustix::fs::unlinkat(&self.folder, &temporary, AtFlags::empty());
        })
    }

    /// Deletes the oldest of the cache's own files, but never `newest`, until the rest is within the bound. Whatever else lies
    /// in the folder is its owner's.
    fn make_room(&self, newest: &str) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in Dir::read_from(&self.folder)? {
            let name = entry?.file_name().to_owned();
            if !is_ours(name.to_bytes()) {
                continue;
            }
            let stat = rustix::fs::statat(&self.folder, &name, AtFlags::SYMLINK_NOFOLLOW)?;
            if name.to_bytes() != newest.as_bytes() && rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file() {
                files.push((stat.st_mtime, name, u64::try_from(stat.st_size).unwrap_or(0)));
            }
        }
        files.sort_unstable_by(|one, other| other.cmp(one));
        let own = rustix::fs::statat(&self.folder, newest, AtFlags::SYMLINK_NOFOLLOW)?.st_size;
        let mut bytes = u64::try_from(own).unwrap_or(0);
        for (_, name, size) in files {
            bytes = bytes.saturating_add(size);
            if bytes > self.bytes_max {
                match rustix::fs::unlinkat(&self.folder, &name, AtFlags::empty()) {
                    // Another process on this folder was quicker.
                    Ok(()) | Err(rustix::io::Errno::NOENT) => (),
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }
}

/// Whether a name is that of a file of code, or of one that is being written: 64 hexadecimal digits, and `.PID.NUMBER`.
fn is_ours(name: &[u8]) -> bool {
    let Some((digest, rest)) = name.split_at_checked(2 * DIGEST_BYTES) else { return false };
    let numbers = rest.split(|byte| *byte == b'.').skip(1);
    let is_number = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    let is_written = rest.first() == Some(&b'.') && numbers.clone().count() == 2 && numbers.into_iter().all(is_number);
    digest.iter().all(u8::is_ascii_hexdigit) && (rest.is_empty() || is_written)
}

/// The note at the end of what is sealed.
fn note_of(file: &File, sealed: u64) -> io::Result<Vec<u8>> {
    let broken = || io::Error::other("its note is not where it should be");
    let end = sealed.checked_sub(4).ok_or_else(broken)?;
    let mut length = [0; 4];
    file.read_exact_at(&mut length, end)?;
    let length = u32::from_le_bytes(length);
    let start = end.checked_sub(u64::from(length)).filter(|_| length as usize <= NOTE_BYTES_MAX).ok_or_else(broken)?;
    let mut note = vec![0; length as usize];
    file.read_exact_at(&mut note, start)?;
    Ok(note)
}

fn check_key_lies_outside(folder: &Path, key: &Path) -> Result<(), CacheError> {
    let whole = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let inside = key.parent().is_some_and(|parent| whole(parent).starts_with(whole(folder)));
    if inside { Err(CacheError::KeyInside { key: key.into() }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Read, Seek};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn options(folder: &Path, within: &str) -> CacheOptions {
        CacheOptions { folder: folder.join(within), key: folder.join("elsewhere/key"), bytes_max: 1000 }
    }

    fn open(folder: &Path) -> Cache {
        Cache::open(&options(folder, "made/of/two")).unwrap()
    }

    /// What is kept: code and note.
    fn read(cache: &Cache, key: &Key) -> Option<(Vec<u8>, Vec<u8>)> {
        let trusted = cache.read(key)?;
        let mut bytes = Vec::new();
        trusted.file().rewind().unwrap();
        trusted.file().read_to_end(&mut bytes).unwrap();
        bytes.truncate(bytes.len() - TAIL_BYTES - trusted.note().len());
        Some((bytes, trusted.note().to_vec()))
    }

    fn only_file(folder: &Path) -> PathBuf {
        fs::read_dir(folder.join("made/of/two")).unwrap().next().unwrap().unwrap().path()
    }

    #[test]
    fn what_was_written_is_read_under_its_own_key_alone() {
        let folder = tempfile::tempdir().unwrap();
        let cache = open(folder.path());
        let key = Key::new("acme", b"component", [1; 32]);
        assert!(cache.read(&key).is_none());
        cache.write(&key, b"code", b"note");
        assert_eq!(read(&cache, &key).unwrap(), (b"code".to_vec(), b"note".to_vec()));
        for other in [
            Key::new("acme", b"component", [2; 32]),
            Key::new("acme", b"other", [1; 32]),
            Key::new("other", b"component", [1; 32]),
        ] {
            assert!(cache.read(&other).is_none());
            fs::copy(only_file(folder.path()), folder.path().join("made/of/two").join(other.file_name())).unwrap();
            assert!(cache.read(&other).is_none(), "code was taken for another component's");
            fs::remove_file(folder.path().join("made/of/two").join(other.file_name())).unwrap();
        }
    }

    #[test]
    fn what_another_key_has_sealed_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let key = Key::new("acme", b"component", [1; 32]);
        open(folder.path()).write(&key, b"code", b"note");
        assert!(open(folder.path()).read(&key).is_some(), "the key is kept");
        fs::remove_file(folder.path().join("elsewhere/key")).unwrap();
        assert!(open(folder.path()).read(&key).is_none());
    }

    #[test]
    fn a_changed_file_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let cache = open(folder.path());
        let key = Key::new("acme", b"component", [1; 32]);
        cache.write(&key, b"code", b"note");
        let path = only_file(folder.path());
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut flipped = good.clone();
            flipped[at] ^= 1;
            fs::write(&path, &flipped).unwrap();
            assert!(cache.read(&key).is_none(), "byte {at}");
            fs::write(&path, &good[..at]).unwrap();
            assert!(cache.read(&key).is_none(), "cut at {at}");
        }
        fs::write(&path, [&good[..], b"x"].concat()).unwrap();
        assert!(cache.read(&key).is_none());
        cache.write(&key, b"code", b"note");
        assert!(cache.read(&key).is_some());
    }

    #[test]
    fn a_folder_that_others_can_enter_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for mode in [0o755, 0o770, 0o701, 0o702] {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
            let refused = Cache::open(&options(folder.path(), "")).err().map(|error| error.to_string());
            assert!(refused.unwrap().contains(&format!("{mode:o}")));
        }
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let key = tempfile::tempdir().unwrap();
        let apart = CacheOptions { key: key.path().join("key"), ..options(folder.path(), "") };
        assert!(Cache::open(&apart).is_ok());
        assert!(matches!(Cache::open(&options(folder.path(), "")), Err(CacheError::KeyInside { .. })));
        let file = folder.path().join("file");
        fs::write(&file, b"").unwrap();
        assert!(matches!(Cache::open(&options(&file, "")), Err(CacheError::Open { .. })));
    }

    #[test]
    fn the_folder_is_made_private() {
        let folder = tempfile::tempdir().unwrap();
        drop(open(folder.path()));
        let mode = fs::metadata(folder.path().join("made/of/two")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn what_is_no_file_of_code_is_neither_waited_for_nor_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let cache = open(folder.path());
        let key = Key::new("acme", b"component", [1; 32]);
        let path = folder.path().join("made/of/two").join(key.file_name());
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
        assert!(cache.read(&key).is_none());
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        cache.write(&key, b"code", b"note");
        assert_eq!(only_file(folder.path()), path, "a temporary file stayed behind");
    }

    #[test]
    fn the_oldest_files_make_room() {
        let folder = tempfile::tempdir().unwrap();
        let cache = open(folder.path());
        let keys: Vec<Key> = (0..4).map(|number| Key::new("acme", b"component", [number; 32])).collect();
        for (age, key) in keys.iter().enumerate() {
            cache.write(key, &[7; 250], b"");
            let path = folder.path().join("made/of/two").join(key.file_name());
            let written = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000 + age as u64);
            File::open(path).unwrap().set_modified(written).unwrap();
        }
        let kept: Vec<bool> = keys.iter().map(|key| cache.read(key).is_some()).collect();
        assert_eq!(kept, [false, true, true, true]);
        let stranger = folder.path().join("made/of/two/thesis.doc");
        fs::write(&stranger, [7; 2000]).unwrap();
        cache.write(&keys[0], &[7; 250], b"");
        assert!(stranger.exists(), "a file that is not the cache's was deleted");
        cache.write(&keys[0], &[7; 1000], b"");
        assert!(read(&cache, &keys[0]).is_some_and(|(code, _)| code.len() == 250), "more than the bound is kept");
        assert!(cache.read(&keys[3]).is_some());
    }
}
