//! `assets`, and the values of `[config]`. Reads neither a file nor the environment.

use std::fmt;
use std::path::{Component, PathBuf};

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::grants::VariableName;

const ASSETS_MAX: usize = 64;

/// A file of the folder: a relative path without `..`.
#[derive(Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct FilePath(pub(crate) PathBuf);

impl FilePath {
    /// The path with nothing in it that could be written otherwise.
    pub(crate) fn name(&self) -> String {
        let parts = self.0.components().filter(|part| *part != Component::CurDir);
        parts.map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
    }
}

impl TryFrom<String> for FilePath {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let path = PathBuf::from(text);
        let inside = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        let named = path.file_name().is_some();
        if inside && named {
            Ok(Self(path))
        } else {
            Err(format!("expected a file of this folder, without `..`, found {path:?}"))
        }
    }
}

/// The files that the plugin gets.
#[derive(Deserialize)]
#[serde(try_from = "Vec<FilePath>")]
pub(crate) struct AssetPaths(pub(crate) Vec<FilePath>);

impl TryFrom<Vec<FilePath>> for AssetPaths {
    type Error = String;

    fn try_from(paths: Vec<FilePath>) -> Result<Self, String> {
        match paths.len() {
            0..=ASSETS_MAX => Ok(Self(paths)),
            count => Err(format!("expected at most {ASSETS_MAX} files, found {count}")),
        }
    }
}

/// A value of `[config]`; without `Debug`, for its secrets.
pub(crate) enum ConfigValue {
    Plain(String),
    Secret(SecretTable),
}

/// `{ secret = "…" }` or `{ secret_env = "NAME" }`; that it is one of them is for the reader to see.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SecretTable {
    pub(crate) secret: Option<String>,
    pub(crate) secret_env: Option<VariableName>,
}

impl<'de> Deserialize<'de> for ConfigValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ConfigVisitor)
    }
}

struct ConfigVisitor;

impl<'de> Visitor<'de> for ConfigVisitor {
    type Value = ConfigValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, `{ secret = \"…\" }` or `{ secret_env = \"NAME\" }`")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<ConfigValue, E> {
        Ok(ConfigValue::Plain(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ConfigValue, A::Error> {
        SecretTable::deserialize(MapAccessDeserializer::new(map)).map(ConfigValue::Secret)
    }
}
