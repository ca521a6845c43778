//! `[engine]`'s keys for those who run models' nodes: libraries, their memory, and the place of compiled engines.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use sandmill_catalog::ByteSize;
use sandmill_engine::{ProviderLibrary, ProviderOptions};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::config::set;

/// From what holds a model to more than any device has.
pub(crate) type DeviceMemory = ByteSize<{ 1 << 20 }, { 1 << 40 }>;

/// `provider_libraries`
pub(crate) type Libraries = BTreeMap<String, Library>;

/// The path alone, or a table.
#[derive(Clone, Debug)]
pub(crate) struct Library(ProviderLibrary);

/// `{ path = "…", options = ["…"] }`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LibraryTable {
    path: PathBuf,
    #[serde(default)]
    options: Vec<String>,
}

impl<'de> Deserialize<'de> for Library {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LibraryVisitor)
    }
}

struct LibraryVisitor;

impl<'de> Visitor<'de> for LibraryVisitor {
    type Value = Library;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a library's path, or `{ path = \"…\", options = [\"…\"] }`")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Library, E> {
        Ok(Library(ProviderLibrary { path: text.into(), options: Vec::new() }))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Library, A::Error> {
        let LibraryTable { path, options } = LibraryTable::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Library(ProviderLibrary { path, options }))
    }
}

/// What the keys say together.
pub(crate) fn options(libraries: &Libraries, engine_cache: Option<&PathBuf>, memory: Option<DeviceMemory>) -> ProviderOptions {
    let libraries = libraries.iter().map(|(name, library)| (name.clone(), library.0.clone())).collect();
    let mut options = ProviderOptions { libraries, engine_cache: engine_cache.cloned(), ..ProviderOptions::default() };
    set(&mut options.memory_bytes_max, memory.map(ByteSize::get));
    options
}

#[cfg(test)]
mod tests {
    use sandmill_catalog::read_document;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Page {
        libraries: Libraries,
    }

    #[test]
    fn a_library_is_a_path_or_a_table() {
        let text = "libraries = { npu = '/lib/npu.so', tpu = { path = '/lib/tpu.so', options = ['threads'] } }";
        let page: Page = read_document(text).expect("good");
        let ProviderOptions { libraries, .. } = options(&page.libraries, None, None);
        assert_eq!(libraries["npu"], ProviderLibrary { path: "/lib/npu.so".into(), options: Vec::new() });
        assert_eq!(libraries["tpu"], ProviderLibrary { path: "/lib/tpu.so".into(), options: vec!["threads".to_owned()] });
        for (text, expected) in [
            ("libraries.npu = 1", "libraries.npu: expected a library's path, or "),
            ("libraries.npu = {}", "libraries.npu.path: this key is missing"),
            ("libraries.npu = { path = '/x', option = [] }", "libraries.npu.option: unknown key, did you mean `options`?"),
        ] {
            let problems = read_document::<Page>(text).expect_err("bad");
            assert!(problems[0].to_string().contains(expected), "{problems:?}");
        }
    }
}
