//! What a function hands its plugin besides requests: settings, secret or not, and files. Reads nothing itself.

use bytes::Bytes;

/// A value of a function's configuration.
#[derive(Clone, PartialEq, Eq)]
pub struct Setting {
    /// What the plugin asks for.
    pub key: String,
    /// What it gets.
    pub value: String,
    /// Whether it is kept out of everything that is stored: a secret can be read while a request runs, and at no other time.
    pub secret: bool,
}

impl std::fmt::Debug for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = if self.secret { "(secret)" } else { &self.value };
        f.debug_struct("Setting").field("key", &self.key).field("value", &value).finish_non_exhaustive()
    }
}

/// A file that a function gives its plugin.
#[derive(Clone, PartialEq, Eq)]
pub struct Asset {
    /// As the plugin knows it: its path in the function's folder, with slashes.
    pub name: String,
    /// The whole file.
    pub data: Bytes,
}

impl std::fmt::Debug for Asset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asset").field("name", &self.name).field("bytes", &self.data.len()).finish()
    }
}
