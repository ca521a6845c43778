//! Where a store is, for what works on one without a server.

use std::path::Path;

use anyhow::{Context, Result};

use crate::client::user_folder;

/// As it was given, a folder by its whole path; or the user's own.
pub(crate) fn find(given: Option<&str>) -> Result<String> {
    let folder = match given {
        Some(location) if is_url(location) => return Ok(location.to_owned()),
        Some(location) => std::path::absolute(location).with_context(|| format!("`{location}` names no store"))?,
        None => user_folder("XDG_DATA_HOME", ".local/share")?.join("store"),
    };
    let text = folder.to_str().with_context(|| format!("{} is not UTF-8", folder.display()))?;
    Ok(text.to_owned())
}

/// Whether a folder that should be a store is not there: opening it would make it.
pub(crate) fn is_missing(location: &str) -> bool {
    !is_url(location) && !Path::new(location).exists()
}

fn is_url(location: &str) -> bool {
    location.contains("://") || location == "memory:"
}
