//! The files of one folder, read whole and within bounds: nothing outside the folder, nothing that is no plain file.
//! Knows not what they hold. Blocking.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use thiserror::Error;

/// A folder, by its path without symbolic links.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

/// Why a file was not read; the texts go with a file's name before them.
#[derive(Debug, Error)]
pub(crate) enum FileError {
    #[error("there is no such file")]
    Missing,
    #[error("leads out of the folder through a symbolic link: put the file itself into the folder")]
    Outside,
    #[error("is no regular file")]
    Irregular,
    #[error("has {found} bytes, more than the {max} that are allowed")]
    TooLarge { found: u64, max: u64 },
    #[error("may not be read by this user: check its permissions")]
    Denied,
    #[error("cannot be read: {0}")]
    Other(io::Error),
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            io::ErrorKind::PermissionDenied => Self::Denied,
            _ => Self::Other(error),
        }
    }
}

impl Folder {
    /// Finds the folder; the path to it may lead through symbolic links.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let path = path.canonicalize()?;
        if path.is_dir() { Ok(Self(path)) } else { Err(io::ErrorKind::NotADirectory.into()) }
    }

    /// The last part of its real path, if that has one in UTF-8.
    pub(crate) fn name(&self) -> Option<&str> {
        self.0.file_name()?.to_str()
    }

    /// The whole content of a file, given by its path within the folder, and where it was found.
    pub(crate) fn read(&self, path: &Path, bytes_max: u64) -> Result<(PathBuf, Bytes), FileError> {
        let found = self.0.join(path).canonicalize()?;
        if !found.starts_with(&self.0) {
            return Err(FileError::Outside);
        }
        let content = read_plain(&found, bytes_max)?;
        Ok((found, content))
    }
}

/// The whole content of a plain file.
pub(crate) fn read_plain(path: &Path, bytes_max: u64) -> Result<Bytes, FileError> {
    read_whole(&open_plain(path)?, bytes_max)
}

/// Does not wait for the other end of a pipe, nor follow a link that has taken the file's place since it was looked up.
fn open_plain(path: &Path) -> Result<File, FileError> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        // What a socket answers.
        Err(Errno::NXIO) => return Err(FileError::Irregular),
        Err(error) => return Err(io::Error::from(error).into()),
    };
    if file.metadata()?.is_file() { Ok(file) } else { Err(FileError::Irregular) }
}

/// A size that the file system states is refused unread; one that it does not state, or that grows, is cut off.
fn read_whole(file: &File, bytes_max: u64) -> Result<Bytes, FileError> {
    let stated = file.metadata()?.len();
    let refuse = |found| Err(FileError::TooLarge { found, max: bytes_max });
    if stated > bytes_max {
        return refuse(stated);
    }
    // One byte of room more than stated: the read that finds the end does not make the buffer grow.
    let mut content = Vec::with_capacity(usize::try_from(stated).map_or(0, |stated| stated + 1));
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut content)?;
    match content.len() as u64 {
        found if found > bytes_max => refuse(found),
        _ => Ok(content.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;
    use std::{fs, thread};

    use rustix::fs::{CWD, FileType, mknodat};
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    use tempfile::TempDir;

    use super::*;

    fn folder() -> (TempDir, Folder) {
        let dir = tempfile::tempdir().expect("a folder");
        fs::create_dir(dir.path().join("in")).expect("made");
        fs::write(dir.path().join("in/data"), "0123456789").expect("written");
        fs::write(dir.path().join("secret"), "secret").expect("written");
        let folder = Folder::open(&dir.path().join("in")).expect("opened");
        (dir, folder)
    }

    fn refusal(folder: &Folder, path: &str) -> String {
        folder.read(Path::new(path), 10).expect_err(path).to_string()
    }

    #[test]
    fn files_are_read_up_to_the_bound() {
        let (_dir, folder) = folder();
        let (path, content) = folder.read(Path::new("./data"), 10).expect("read");
        assert_eq!((content.as_ref(), path.file_name()), (&b"0123456789"[..], Some("data".as_ref())));
        assert!(matches!(folder.read(Path::new("data"), 9), Err(FileError::TooLarge { found: 10, max: 9 })));
    }

    #[test]
    fn a_huge_file_is_refused_unread() {
        let (dir, folder) = folder();
        File::create(dir.path().join("in/huge")).and_then(|file| file.set_len(1 << 40)).expect("sparse");
        assert_eq!(refusal(&folder, "huge"), "has 1099511627776 bytes, more than the 10 that are allowed");
    }

    #[test]
    fn a_file_that_states_no_size_is_cut_off() {
        assert!(matches!(
            open_plain(Path::new("/proc/self/status")).and_then(|file| read_whole(&file, 10)),
            Err(FileError::TooLarge { found: 11, max: 10 })
        ));
    }

    #[test]
    fn links_may_not_lead_out() {
        let (dir, folder) = folder();
        let inside = dir.path().join("in");
        symlink("data", inside.join("good")).expect("linked");
        symlink("../secret", inside.join("out")).expect("linked");
        symlink("/etc/passwd", inside.join("far")).expect("linked");
        symlink("..", inside.join("up")).expect("linked");
        symlink("loop", inside.join("loop")).expect("linked");
        symlink("gone", inside.join("dangling")).expect("linked");
        assert!(folder.read(Path::new("good"), 10).is_ok());
        for out in ["out", "far", "up/secret", "../secret", "/etc/passwd", "up/in/../secret"] {
            assert!(matches!(folder.read(Path::new(out), 10), Err(FileError::Outside)), "{out}");
        }
        assert!(matches!(open_plain(&inside.join("good")), Err(FileError::Other(_))), "a link after the look-up");
        assert!(refusal(&folder, "loop").starts_with("cannot be read: "));
        assert_eq!(refusal(&folder, "dangling"), "there is no such file");
    }

    #[test]
    fn a_sibling_with_the_same_beginning_is_outside() {
        let (dir, folder) = folder();
        fs::create_dir(dir.path().join("in-other")).expect("made");
        fs::write(dir.path().join("in-other/data"), "x").expect("written");
        symlink("../in-other/data", dir.path().join("in/link")).expect("linked");
        assert!(matches!(folder.read(Path::new("link"), 10), Err(FileError::Outside)));
    }

    #[test]
    fn only_plain_files_are_read() {
        let (dir, folder) = folder();
        let inside = dir.path().join("in");
        mknodat(CWD, inside.join("pipe"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe without a writer");
        let _listener = UnixListener::bind(inside.join("socket")).expect("a socket");
        fs::create_dir(inside.join("sub")).expect("made");
        for path in ["pipe", "socket", "sub"] {
            assert_eq!(refusal(&folder, path), "is no regular file", "{path}");
        }
        assert!(matches!(open_plain(Path::new("/dev/zero")), Err(FileError::Irregular)));
        assert!(refusal(&folder, "data/x").starts_with("cannot be read: "));
        assert_eq!(refusal(&folder, "none"), "there is no such file");
    }

    #[test]
    fn a_file_without_permission_is_told_so() {
        let (dir, folder) = folder();
        fs::set_permissions(dir.path().join("in/data"), fs::Permissions::from_mode(0o000)).expect("changed");
        // The superuser may read everything, but for a thread that gives this up.
        let told = thread::spawn(move || {
            let mut sets = capabilities(None).expect("known");
            sets.effective -= CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
            set_capabilities(None, sets).expect("given up");
            refusal(&folder, "data")
        });
        assert_eq!(told.join().expect("no panic"), "may not be read by this user: check its permissions");
    }
}
