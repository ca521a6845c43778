//! `providers` of a model: names, or tables with settings. Which providers and options there are is not known here.

use std::collections::BTreeMap;
use std::fmt;

use sandmill_domain::{Arena, Optimization, ProfileShapes, Provider};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::PlainName;
use crate::quantity::{ByteSize, Count};

const PROVIDERS_MAX: usize = 8;
const OPTIONS_MAX: usize = 32;
const OPTION_BYTES_MAX: usize = 64;
/// A shape for every input of a model with dozens of them.
const VALUE_BYTES_MAX: usize = 4096;

/// `providers`
#[derive(Deserialize)]
#[serde(try_from = "Vec<ProviderValue>")]
pub(crate) struct Providers(Vec<Provider>);

impl Providers {
    pub(crate) fn list(&self) -> Vec<Provider> {
        self.0.clone()
    }
}

impl Default for Providers {
    fn default() -> Self {
        Self(vec![Provider::cpu()])
    }
}

impl TryFrom<Vec<ProviderValue>> for Providers {
    type Error = String;

    fn try_from(values: Vec<ProviderValue>) -> Result<Self, String> {
        if values.len() > PROVIDERS_MAX {
            return Err(format!("expected at most {PROVIDERS_MAX} providers, found {}", values.len()));
        }
        let providers: Vec<Provider> = values.into_iter().map(|value| value.0).collect();
        let is_again = |(at, provider): &(usize, &Provider)| providers[..*at].iter().any(|other| other.name == provider.name);
        match providers.iter().enumerate().find(is_again) {
            Some((_, provider)) => Err(format!("`{}` is named twice", provider.name)),
            None => Ok(Self(providers)),
        }
    }
}

/// A name alone, or a table.
struct ProviderValue(Provider);

/// `{ name = "cuda", … }`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProviderTable {
    name: PlainName,
    device: Option<Count<0, 255>>,
    /// Less than a mebibyte holds no model; there is no device with more than a tebibyte.
    memory_bytes_max: Option<ByteSize<{ 1 << 20 }, { 1 << 40 }>>,
    arena: Option<ArenaWord>,
    #[serde(default)]
    fp16: bool,
    shapes: Option<ShapesTable>,
    #[serde(default)]
    options: Options,
}

/// `arena`
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ArenaWord {
    NextPowerOfTwo,
    SameAsRequested,
}

/// `shapes`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ShapesTable {
    min: Text,
    opt: Text,
    max: Text,
}

impl From<ProviderTable> for Provider {
    fn from(table: ProviderTable) -> Self {
        let arena = |word| match word {
            ArenaWord::NextPowerOfTwo => Arena::NextPowerOfTwo,
            ArenaWord::SameAsRequested => Arena::SameAsRequested,
        };
        let shapes = |table: ShapesTable| ProfileShapes { min: table.min.0, opt: table.opt.0, max: table.max.0 };
        Self {
            name: table.name.0,
            device: table.device.map(|device| u32::try_from(device.get()).expect("invariant: a device is at most 255")),
            memory_bytes_max: table.memory_bytes_max.map(ByteSize::get),
            arena: table.arena.map(arena),
            fp16: table.fp16,
            shapes: table.shapes.map(shapes),
            options: table.options.0,
        }
    }
}

impl<'de> Deserialize<'de> for ProviderValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ProviderVisitor)
    }
}

struct ProviderVisitor;

impl<'de> Visitor<'de> for ProviderVisitor {
    type Value = ProviderValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a provider's name, or a table such as `{ name = \"cuda\", device = 0 }`")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<ProviderValue, E> {
        let name = PlainName::try_from(text.to_owned()).map_err(E::custom)?;
        Ok(ProviderValue(Provider::named(&name.0)))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ProviderValue, A::Error> {
        ProviderTable::deserialize(MapAccessDeserializer::new(map)).map(|table| ProviderValue(table.into()))
    }
}

/// `options`
#[derive(Default, Deserialize)]
#[serde(try_from = "BTreeMap<OptionName, Text>")]
struct Options(BTreeMap<String, String>);

impl TryFrom<BTreeMap<OptionName, Text>> for Options {
    type Error = String;

    fn try_from(options: BTreeMap<OptionName, Text>) -> Result<Self, String> {
        match options.len() {
            0..=OPTIONS_MAX => Ok(Self(options.into_iter().map(|(name, value)| (name.0, value.0)).collect())),
            count => Err(format!("expected at most {OPTIONS_MAX} options, found {count}")),
        }
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
struct OptionName(String);

impl TryFrom<String> for OptionName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let fits = (1..=OPTION_BYTES_MAX).contains(&name.len()) && name.bytes().all(allowed);
        let expected = || format!("expected an option's name of lower-case letters, digits and `_`, {OPTION_BYTES_MAX} at most");
        if fits { Ok(Self(name)) } else { Err(expected()) }
    }
}

/// What a runtime is given as it is: without characters that end it early or hide in a log.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Text(String);

impl TryFrom<String> for Text {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let fits = text.len() <= VALUE_BYTES_MAX && !text.chars().any(char::is_control);
        let expected = || format!("expected a text of at most {VALUE_BYTES_MAX} bytes, on one line");
        if fits { Ok(Self(text)) } else { Err(expected()) }
    }
}

/// `optimization`
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OptimizationWord {
    #[default]
    All,
    Extended,
    Basic,
    Debug,
}

impl From<OptimizationWord> for Optimization {
    fn from(word: OptimizationWord) -> Self {
        match word {
            OptimizationWord::All => Self::All,
            OptimizationWord::Extended => Self::Extended,
            OptimizationWord::Basic => Self::Basic,
            OptimizationWord::Debug => Self::Debug,
        }
    }
}
