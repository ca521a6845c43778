//! The key that seals the cache's files: 32 random bytes in a file of their own, made once, private to this user.

use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use thiserror::Error;

use crate::cache::NOT_OURS;

const KEY_BYTES: usize = 32;

/// Why there is no key.
#[derive(Debug, Error)]
pub enum SealKeyError {
    /// The file can be neither read nor made.
    #[error("the cache's key {} can be neither read nor made", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is another user's, open to others, or no key.
    #[error("the cache's key {} {what}: delete it, and another is made", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
}

/// The key.
pub(crate) struct SealKey([u8; KEY_BYTES]);

impl SealKey {
    /// Reads the key, or makes one: of two processes that make one at once, both get the same.
    pub(crate) fn open(path: &Path) -> Result<Self, SealKeyError> {
        let failed = |source| SealKeyError::Io { path: path.into(), source };
        match open(path) {
            Ok(file) => return read(path, &file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        make(path).map_err(failed)?;
        read(path, &open(path).map_err(failed)?)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Without waiting for the other end of what turns out to be a pipe.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

fn read(path: &Path, mut file: &File) -> Result<SealKey, SealKeyError> {
    let failed = |source| SealKeyError::Io { path: path.into(), source };
    let unusable = |what| SealKeyError::Unusable { path: path.into(), what };
    let metadata = file.metadata().map_err(failed)?;
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(unusable("belongs to another user"));
    }
    if metadata.mode() & NOT_OURS != 0 {
        return Err(unusable("is open to others"));
    }
    if !metadata.is_file() || metadata.len() != KEY_BYTES as u64 {
        return Err(unusable("is no key"));
    }
    let mut bytes = [0; KEY_BYTES];
    file.read_exact(&mut bytes).map_err(failed)?;
    Ok(SealKey(bytes))
}

/// Writes a key beside the place and links it there: the first one to do so wins.
fn make(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut bytes = [0; KEY_BYTES];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    let mut draft = tempfile::Builder::new().prefix(".key-").tempfile_in(folder)?;
    draft.write_all(&bytes)?;
    draft.as_file().sync_all()?;
    match draft.persist_noclobber(path) {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error.error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/key");
        let key = SealKey::open(&path).unwrap();
        assert_eq!(SealKey::open(&path).unwrap().bytes(), key.bytes());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_ne!(SealKey::open(&folder.path().join("other")).unwrap().bytes(), key.bytes());
        assert_eq!(fs::read_dir(folder.path().join("new")).unwrap().count(), 1);
    }

    #[test]
    fn a_key_that_others_may_know_is_no_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        SealKey::open(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = SealKey::open(&path).err().unwrap().to_string();
        assert!(error.contains("is open to others"), "{error}");
        fs::write(&path, b"short").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let error = SealKey::open(&path).err().unwrap().to_string();
        assert!(error.contains("is no key: delete it"), "{error}");
        assert!(matches!(SealKey::open(folder.path()), Err(SealKeyError::Unusable { .. })));
    }
}
