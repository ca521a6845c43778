//! The folder of compiled engines: private to this user, and within it one for each model and the way it is compiled. Knows nothing
//! of what lies in them.
//!
//! What lies there is run as native code, holds the models' weights, and is found by the compiler by names that leave the weights
//! out: of two models in one folder, one could be answered with the other's.

use std::fmt::Write;
use std::fs::{self, DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use thiserror::Error;

/// Group and others.
const NOT_OURS: u32 = 0o077;
/// Those of them that may write, and the bit by which they may not delete what is another's.
const WRITABLE: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// Why a folder is not used for compiled engines.
#[derive(Debug, Error)]
pub enum EngineFolderError {
    /// It depends on where the process was started.
    #[error("the folder of compiled engines, {}, is not an absolute path", folder.display())]
    Relative {
        /// The folder.
        folder: PathBuf,
    },
    /// The runtime takes paths as texts.
    #[error("the folder of compiled engines, {}, has a name that is no text", folder.display())]
    NoText {
        /// The folder.
        folder: PathBuf,
    },
    /// It cannot be made or read.
    #[error("the folder of compiled engines, {}, cannot be used: {source}", folder.display())]
    Unusable {
        /// The folder.
        folder: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is another user's.
    #[error("the folder of compiled engines, {}, belongs to user {owner}, not to user {user}: what lies in it is run as native code", folder.display())]
    Foreign {
        /// The folder, or one above it.
        folder: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        user: u32,
    },
    /// Others can enter it, or exchange it.
    #[error("{} is open to others (mode {mode:o}), and compiled engines, which are run as native code, lie in it: `chmod` it", folder.display())]
    Exposed {
        /// The folder, or one above it.
        folder: PathBuf,
        /// Its permissions.
        mode: u32,
    },
}

/// A folder that was found to be private.
#[derive(Clone, Debug)]
pub(crate) struct EngineFolder(PathBuf);

impl EngineFolder {
    /// Checks the folder, and makes it if need be.
    pub(crate) fn open(folder: &Path) -> Result<Self, EngineFolderError> {
        if !folder.is_absolute() {
            return Err(EngineFolderError::Relative { folder: folder.to_owned() });
        }
        let unusable = |source| EngineFolderError::Unusable { folder: folder.to_owned(), source };
        make(folder).map_err(unusable)?;
        // Without links: what they lead to could be changed after it was looked at.
        let folder = folder.canonicalize().map_err(unusable)?;
        check(&folder)?;
        folder.ancestors().skip(1).try_for_each(check_above)?;
        Ok(Self(folder))
    }

    /// The folder for one model, by all that makes its engine what it is; the compiler adds device and version to the file's name.
    pub(crate) fn of(&self, parts: &[&[u8]]) -> Result<String, EngineFolderError> {
        let mut digest = Sha256::new();
        for part in parts {
            // With its length, so that no other parts look the same one behind the other.
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        let name = digest.finalize().iter().fold(String::new(), |mut name, byte| {
            let _infallible = write!(name, "{byte:02x}");
            name
        });
        let folder = self.0.join(name);
        make(&folder).map_err(|source| EngineFolderError::Unusable { folder: folder.clone(), source })?;
        check(&folder)?;
        folder.into_os_string().into_string().map_err(|folder| EngineFolderError::NoText { folder: folder.into() })
    }
}

fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn look(folder: &Path) -> Result<Metadata, EngineFolderError> {
    let unusable = |source| EngineFolderError::Unusable { folder: folder.to_owned(), source };
    let metadata = fs::symlink_metadata(folder).map_err(unusable)?;
    let no_folder = || unusable(io::ErrorKind::NotADirectory.into());
    if metadata.is_dir() { Ok(metadata) } else { Err(no_folder()) }
}

/// The folder is this user's alone.
fn check(folder: &Path) -> Result<(), EngineFolderError> {
    let metadata = look(folder)?;
    let user = rustix::process::geteuid().as_raw();
    if metadata.uid() != user {
        return Err(EngineFolderError::Foreign { folder: folder.to_owned(), owner: metadata.uid(), user });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & NOT_OURS != 0 { Err(EngineFolderError::Exposed { folder: folder.to_owned(), mode }) } else { Ok(()) }
}

/// Nobody else can exchange what lies in this folder, as they could if they may write to it, unless it is like `/tmp`.
fn check_above(folder: &Path) -> Result<(), EngineFolderError> {
    let metadata = look(folder)?;
    let (owner, user) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if owner != user && owner != 0 {
        return Err(EngineFolderError::Foreign { folder: folder.to_owned(), owner, user });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & WRITABLE != 0 && mode & STICKY == 0 {
        return Err(EngineFolderError::Exposed { folder: folder.to_owned(), mode });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn refusal(folder: &Path) -> String {
        EngineFolder::open(folder).unwrap_err().to_string()
    }

    fn set_mode(folder: &Path, mode: u32) {
        fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_folder_is_made_private() {
        let folder = tempfile::tempdir().unwrap();
        let engines = EngineFolder::open(&folder.path().join("made/of/three")).unwrap();
        let one = engines.of(&[b"model", b"options"]).unwrap();
        assert_eq!(engines.of(&[b"model", b"options"]).unwrap(), one, "the same model finds its engine again");
        let others: [&[&[u8]]; 4] = [&[b"model"], &[b"modeloptions"], &[b"modelo", b"ptions"], &[b"other", b"options"]];
        for other in others {
            assert_ne!(engines.of(other).unwrap(), one);
        }
        for path in [folder.path().join("made/of/three"), PathBuf::from(one)] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o700);
        }
    }

    #[test]
    fn a_folder_that_others_can_reach_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let within = folder.path().join("engines");
        fs::create_dir(&within).unwrap();
        for mode in [0o755, 0o770, 0o701, 0o702, 0o777, 0o1777] {
            set_mode(&within, mode);
            let text = refusal(&within);
            assert!(text.contains("engines is open to others") && text.contains(&format!("{mode:o}")), "{text}");
        }
        set_mode(&within, 0o700);
        assert!(EngineFolder::open(&within).is_ok());
        set_mode(folder.path(), 0o777);
        assert!(refusal(&within).contains("is open to others (mode 777)"), "a folder above it can be written to");
        set_mode(folder.path(), 0o1777);
        assert!(EngineFolder::open(&within).is_ok());
    }

    #[test]
    fn what_is_no_folder_of_ours_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(refusal(Path::new("engines")).contains("is not an absolute path"));
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(refusal(&file).contains("cannot be used"));
        assert!(refusal(Path::new("/proc/none")).contains("cannot be used"));
        // What a link leads to is what counts.
        let (open, link) = (folder.path().join("open"), folder.path().join("link"));
        fs::create_dir(&open).unwrap();
        set_mode(&open, 0o755);
        symlink(&open, &link).unwrap();
        assert!(refusal(&link).contains("open is open to others"));
        // A link in the place of a model's folder leads nobody elsewhere.
        let engines = EngineFolder::open(&folder.path().join("engines")).unwrap();
        let one = engines.of(&[b"model"]).unwrap();
        fs::remove_dir(&one).unwrap();
        symlink(&open, &one).unwrap();
        assert!(engines.of(&[b"model"]).is_err());
    }
}
