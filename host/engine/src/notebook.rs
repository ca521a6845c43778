//! What was found out about models on this machine, kept on disk by the model's digest and all that it depends on: a file each, written
//! whole, and of no worth but the time that it saves. Whatever is wrong with one, it is found out anew.

use std::fmt::Write;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

/// To be changed with the form of what is kept, or with how it is found out.
const FORM: &str = "sandmill model notes 3";
/// One file; a table of sizes has some hundred bytes.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// Files: beyond, the oldest goes.
const FILES_MAX: usize = 4096;

/// A folder that only this user can enter.
#[derive(Debug)]
pub(crate) struct Notebook {
    folder: PathBuf,
    /// What the machine and the runtime are.
    here: Vec<u8>,
}

/// A page of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key(String);

impl Notebook {
    /// Opens the folder, making it if need be. `runtime` is its version.
    ///
    /// # Errors
    /// If it cannot be made, or others can write there.
    pub(crate) fn open(folder: &Path, runtime: &str) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let metadata = fs::metadata(folder)?;
        if metadata.uid() != rustix::process::geteuid().as_raw() || metadata.mode() & 0o022 != 0 {
            let message = format!("{} is another user's, or others may write there", folder.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
        }
        let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let of_first = |name: &str| processor.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
        let here = [FORM, env!("CARGO_PKG_VERSION"), runtime, &of_first("model name"), &of_first("flags")].join("\n");
        Ok(Self { folder: folder.to_owned(), here: here.into_bytes() })
    }

    /// Where it stands what this question about a model was answered with.
    pub(crate) fn key(&self, model: &[u8], question: &impl Serialize) -> Key {
        let question = postcard::to_stdvec(question).expect("invariant: plain data in memory can be written");
        let digest = Sha256::new().chain_update(Sha256::digest(model)).chain_update(&self.here).chain_update(question).finalize();
        Key(digest.iter().fold(String::new(), |mut text, byte| {
            let _infallible = write!(text, "{byte:02x}");
            text
        }))
    }

    /// What was kept there, if it can be read.
    pub(crate) fn read<T: DeserializeOwned>(&self, key: &Key) -> Option<T> {
        let mut bytes = Vec::new();
        File::open(self.folder.join(&key.0)).ok()?.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        let (sum, content) = bytes.split_at_checked(32)?;
        if Sha256::digest(content)[..] != *sum {
            tracing::warn!(file = key.0, "a note on a model is damaged: what it said is found out anew");
            return None;
        }
        postcard::from_bytes(content).ok()
    }

    /// Keeps it. What cannot be kept is found out again the next time.
    pub(crate) fn write(&self, key: &Key, note: &impl Serialize) {
        let content = postcard::to_stdvec(note).expect("invariant: plain data in memory can be written");
        let bytes = [&Sha256::digest(&content)[..], &content].concat();
        if let Err(error) = self.replace(key, &bytes) {
            tracing::warn!(%error, folder = %self.folder.display(), "what was found out about a model is not kept");
        }
    }

    fn replace(&self, key: &Key, bytes: &[u8]) -> io::Result<()> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        self.make_room()?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let unfinished = self.folder.join(format!(".{}-{}-{number}", key.0, process::id()));
        // On a full disk, half a note must not stay either.
        let written = fs::write(&unfinished, bytes).and_then(|()| fs::rename(&unfinished, self.folder.join(&key.0)));
        written.inspect_err(|_| drop(fs::remove_file(&unfinished)))
    }

    fn make_room(&self) -> io::Result<()> {
        let mut files: Vec<_> = fs::read_dir(&self.folder)?.collect::<io::Result<_>>()?;
        if files.len() < FILES_MAX {
            return Ok(());
        }
        files.sort_by_cached_key(|file| file.metadata().and_then(|metadata| metadata.modified()).ok());
        files.iter().take(files.len() + 1 - FILES_MAX).try_for_each(|file| fs::remove_file(file.path()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn notebook() -> (tempfile::TempDir, Notebook) {
        let folder = tempfile::tempdir().unwrap();
        let notebook = Notebook::open(&folder.path().join("notes"), "1.31.1").unwrap();
        (folder, notebook)
    }

    #[test]
    fn what_is_kept_is_found_by_the_same_question_alone() {
        let (_folder, notebook) = notebook();
        let key = notebook.key(b"model", &"question");
        assert_eq!(notebook.read::<u32>(&key), None);
        notebook.write(&key, &7_u32);
        assert_eq!(notebook.read::<u32>(&key), Some(7));
        for other in [notebook.key(b"other", &"question"), notebook.key(b"model", &"another")] {
            assert_eq!(notebook.read::<u32>(&other), None);
        }
        assert_eq!(fs::read_dir(&notebook.folder).unwrap().count(), 1, "nothing unfinished is left");
    }

    #[test]
    fn what_is_damaged_is_not_read() {
        let (_folder, notebook) = notebook();
        let key = notebook.key(b"model", &());
        notebook.write(&key, &"some text");
        let file = notebook.folder.join(&key.0);
        let good = fs::read(&file).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&file, &bad).unwrap();
            assert_eq!(notebook.read::<String>(&key), None, "{at}");
            fs::write(&file, &good[..at]).unwrap();
            assert_eq!(notebook.read::<String>(&key), None, "{at}");
        }
        notebook.write(&key, &"some text");
        assert_eq!(notebook.read::<String>(&key).as_deref(), Some("some text"));
    }

    #[test]
    fn the_oldest_goes_when_there_are_too_many() {
        let (_folder, notebook) = notebook();
        for number in 0..FILES_MAX + 3 {
            fs::write(notebook.folder.join(format!("{number}")), "").unwrap();
        }
        let key = notebook.key(b"model", &());
        notebook.write(&key, &7_u32);
        assert_eq!(fs::read_dir(&notebook.folder).unwrap().count(), FILES_MAX);
        assert_eq!(notebook.read::<u32>(&key), Some(7));
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_refused() {
        let (folder, _notebook) = notebook();
        let open = folder.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Notebook::open(&open, "1").is_err());
    }
}
