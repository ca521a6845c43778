//! A store in a folder of this machine: what the client leaves undone for it to be safe from a loss of power. Blocking.
//!
//! The client syncs a file and its folder. It does not sync the folders above when another has made them a moment ago, nor does
//! it remove what an upload leaves when its process is killed.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use object_store::path::Path as Object;

/// The folder.
#[derive(Clone, Debug)]
pub(crate) struct Local {
    root: PathBuf,
    /// Its device and number: a volume that goes away leaves another folder in its place.
    identity: (u64, u64),
}

impl Local {
    /// Makes the folder if it is not there, for this user alone.
    pub(crate) fn make(path: &Path) -> io::Result<Self> {
        // As the path was given, it may have no parent to see.
        let path = std::path::absolute(path)?;
        let there = path.ancestors().position(Path::exists).unwrap_or_default();
        if !path.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        }
        // Whatever was made now, in whatever holds it. What was there already may lie where this user may not look.
        path.ancestors().skip(1).take(there).try_for_each(sync)?;
        let root = path.canonicalize()?;
        let identity = identity(&root)?;
        Ok(Self { root, identity })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, object: &Object) -> PathBuf {
        object.parts().fold(self.root.clone(), |path, part| path.join(part.as_ref()))
    }

    /// Whether it is still the folder that was opened: nothing must be written into another.
    pub(crate) fn check(&self) -> io::Result<()> {
        match identity(&self.root)? == self.identity {
            true => Ok(()),
            false => Err(io::Error::other("this is not the folder that was opened: its volume may be gone")),
        }
    }

    /// All folders that lead to an object are on the disk. Nearly free for those that are there already.
    pub(crate) fn sync_folders(&self, object: &Object) -> io::Result<()> {
        self.check()?;
        let path = self.path(object);
        let folders = path.ancestors().skip(1).take_while(|folder| folder.starts_with(&self.root));
        folders.into_iter().try_for_each(sync)
    }

    /// An object that another try, whose end is not known, has written is on the disk, with all folders that lead to it.
    pub(crate) fn sync_object(&self, object: &Object) -> io::Result<()> {
        sync(&self.path(object))?;
        self.sync_folders(object)
    }

    /// Files below a prefix that are no objects yet, `name#1`, with the time of their last change: uploads under way, or what is
    /// left of them.
    pub(crate) fn staged(&self, prefix: &Object) -> io::Result<Vec<(PathBuf, SystemTime)>> {
        let mut found = Vec::new();
        let mut folders = vec![self.path(prefix)];
        while let Some(folder) = folders.pop() {
            let entries = match fs::read_dir(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries?,
            };
            for entry in entries {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    folders.push(entry.path());
                } else if is_staged(&entry.path()) {
                    found.push((entry.path(), entry.metadata()?.modified()?));
                }
            }
        }
        Ok(found)
    }
}

fn identity(folder: &Path) -> io::Result<(u64, u64)> {
    let metadata = folder.metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

fn is_staged(path: &Path) -> bool {
    let suffix = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.split_once('#'));
    suffix.is_some_and(|(_, suffix)| !suffix.is_empty() && suffix.bytes().all(|byte| byte.is_ascii_digit()))
}

fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_folder_is_private_and_leftovers_are_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let local = Local::make(&folder.path().join("a/b")).expect("made");
        let mode = fs::metadata(folder.path().join("a")).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        assert_eq!(local.staged(&Object::from("tenants")).expect("read"), []);
        fs::create_dir(local.root().join("tenants")).expect("made");
        for name in ["x#1", "x#", "x", "x#a"] {
            fs::write(local.root().join("tenants").join(name), "").expect("written");
        }
        let found = local.staged(&Object::from("tenants")).expect("read");
        assert_eq!(found.iter().map(|(path, _)| path.file_name().expect("named")).collect::<Vec<_>>(), ["x#1"]);
        local.sync_object(&Object::from("tenants/x")).expect("synced");
        assert!(Local::make(&local.root().join("tenants/x")).is_err(), "a file is no folder");
        fs::rename(local.root(), folder.path().join("gone")).expect("moved");
        fs::create_dir_all(local.root().join("tenants")).expect("made");
        assert!(local.sync_folders(&Object::from("tenants/x")).is_err(), "another folder is not the store");
    }
}
