//! A function's assets as a folder of their own, for a plugin that may read files: written once, when the plugin is loaded, and
//! gone with it. Nothing else is ever in it, and the guest may only read.

use std::fs;
use std::io;
use std::path::Path;

use sandmill_domain::Asset;
use tempfile::TempDir;

/// Where a guest finds its assets.
pub(crate) const GUEST_PATH: &str = "/assets";

/// The folder; deleted when it is dropped.
pub(crate) struct AssetFolder(TempDir);

impl AssetFolder {
    /// Writes the assets; their names are relative paths without `..`.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub(crate) fn write(assets: &[Asset]) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("sandmill-assets-").tempdir()?;
        for asset in assets {
            let path = folder.path().join(&asset.name);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(path, &asset.data)?;
        }
        Ok(Self(folder))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}
