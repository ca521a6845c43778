//! What the author's `init` starts from. Plain data: where it comes from is the host's affair.

use std::hint::black_box;

/// What a function is loaded with: its settings and the files of its folder.
///
/// Secrets are not among the settings: what `init` leaves in memory outlives the request. A request reads them with
/// [`config::get`](crate::config::get).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Init {
    /// The `[config]` table of `function.toml`, as pairs of key and value, without those marked secret.
    pub config: Vec<(String, String)>,
    /// The files that `function.toml` names as assets.
    pub assets: Vec<Asset>,
}

/// A file of the function's folder. When it is dropped, its bytes are overwritten: the memory that `init` leaves is stored with
/// the function, and zeros take no room there. To keep the bytes, move them out with [`std::mem::take`].
#[derive(Clone, Debug, PartialEq)]
pub struct Asset {
    /// The path within the folder: `labels.txt`.
    pub name: String,
    /// The content.
    pub data: Vec<u8>,
}

impl Drop for Asset {
    fn drop(&mut self) {
        self.data.fill(0);
        // Without a reader, the optimiser would see that nobody misses the zeros.
        black_box(&self.data);
    }
}

impl Init {
    /// The bytes of one asset.
    ///
    /// # Errors
    /// If there is none of this name; the message lists those that there are.
    pub fn asset(&self, name: &str) -> Result<&[u8], String> {
        let asset = self.assets.iter().find(|asset| asset.name == name).ok_or_else(|| {
            let names: Vec<_> = self.assets.iter().map(|asset| asset.name.as_str()).collect();
            format!("there is no asset `{name}` among {names:?}")
        })?;
        Ok(&asset.data)
    }

    /// The value of one setting; none if it is not set, or secret.
    pub fn setting(&self, key: &str) -> Option<&str> {
        self.config.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use crate::testing;

    #[test]
    fn settings_and_assets_are_found_by_name() {
        let start = testing::init(&[("top", "3")], &[("labels.txt", b"cat"), ("empty", b"")]);
        assert_eq!((start.setting("top"), start.setting("bottom")), (Some("3"), None));
        assert_eq!(start.asset("labels.txt"), Ok(&b"cat"[..]));
        assert_eq!(start.asset("words"), Err(r#"there is no asset `words` among ["labels.txt", "empty"]"#.into()));
    }
}
