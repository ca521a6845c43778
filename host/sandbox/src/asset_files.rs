//! A function's assets as a folder of their own, for a plugin that may read files: written once, when the plugin is loaded, and
//! gone with it. Nothing else is ever in it, and the guest may only read.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use sandmill_domain::Asset;
use tempfile::TempDir;

/// Where a guest finds its assets.
pub(crate) const GUEST_PATH: &str = "/assets";

/// The folder; deleted when it is dropped.
pub(crate) struct AssetFolder {
    handle: File,
    _folder: TempDir,
}

impl AssetFolder {
    /// Writes the assets; their names are relative paths without `..`.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub(crate) fn write(assets: &[Asset]) -> io::Result<Self> {
        let private = fs::Permissions::from_mode(0o700);
        let folder = tempfile::Builder::new().prefix("sandmill-assets-").permissions(private).tempdir()?;
        for asset in assets {
            let path = folder.path().join(&asset.name);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(path, &asset.data)?;
        }
        let handle = File::open(folder.path())?;
        Ok(Self { handle, _folder: folder })
    }

    /// A path that leads to this very folder, whatever lies under its name by now.
    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.handle.as_raw_fd()).into()
    }
}
