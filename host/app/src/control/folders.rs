//! Where releases are unpacked: a folder of this process's own, gone with it. What a process that was killed has left is removed by
//! the next one.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};
use tempfile::{Builder, TempDir};

/// Held, under this name, by the process that a folder belongs to.
const LOCK: &str = "lock";

/// Folders for releases.
pub(crate) struct Folders {
    own: TempDir,
    _lock: File,
}

impl Folders {
    /// Makes this process's own among those of others, and removes what dead ones have left.
    pub(crate) fn open(work: &Path) -> Result<Self> {
        fs::create_dir_all(work)
            .with_context(|| format!("cannot make the folder for releases {} ([store] work)", work.display()))?;
        remove_left(work);
        let own = Builder::new().prefix("host-").tempdir_in(work);
        let own = own.with_context(|| format!("cannot write to the folder for releases {} ([store] work)", work.display()))?;
        let lock = File::create(own.path().join(LOCK)).context("cannot make a file in the folder for releases")?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).context("cannot lock the folder for releases")?;
        Ok(Self { own, _lock: lock })
    }

    /// Where they are.
    pub(crate) fn path(&self) -> &Path {
        self.own.path()
    }

    /// A new one, which goes when it is dropped.
    pub(crate) fn make(&self) -> Result<TempDir> {
        let made = Builder::new().prefix("release-").tempdir_in(self.own.path());
        made.with_context(|| format!("cannot write to {} ([store] work)", self.own.path().display()))
    }
}

/// What cannot be removed only takes space.
fn remove_left(work: &Path) {
    let entries = fs::read_dir(work).into_iter().flatten().filter_map(Result::ok);
    for folder in entries.map(|entry| entry.path()).filter(is_left) {
        if let Err(error) = fs::remove_dir_all(&folder) {
            tracing::warn!(folder = %folder.display(), %error, "a dead process's folder cannot be removed");
        }
    }
}

/// One without a lock is being made, or was left by a process that died just then: a minute tells which.
fn is_left(folder: &PathBuf) -> bool {
    let is_ours = folder.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"host-"));
    let is_old =
        || fs::metadata(folder).and_then(|data| data.modified()).is_ok_and(|at| at.elapsed().is_ok_and(|age| age.as_secs() > 60));
    is_ours
        && match File::open(folder.join(LOCK)) {
            Ok(lock) => flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok(),
            Err(_) => is_old(),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_process_left_goes_and_what_a_living_one_has_stays() {
        let work = tempfile::tempdir().expect("a folder");
        let living = Folders::open(work.path()).expect("opened");
        let release = living.make().expect("made");
        let dead = work.path().join("host-dead");
        fs::create_dir(&dead).expect("made");
        fs::write(dead.join(LOCK), "").expect("written");
        fs::create_dir(work.path().join("somebody-elses")).expect("made");
        let other = Folders::open(work.path()).expect("opened");
        assert!(!dead.exists() && release.path().exists() && work.path().join("somebody-elses").exists());
        drop((release, living, other));
        let left: Vec<_> = fs::read_dir(work.path()).expect("read").map(|entry| entry.expect("read").file_name()).collect();
        assert_eq!(left, ["somebody-elses"]);
    }
}
