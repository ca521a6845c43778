//! `[grants]`, and the environment variables that it and `[config]` name. What the host grants at most is not known here.

use std::collections::BTreeMap;

use sandmill_domain::{Grants, Origin, OriginError};
use serde::Deserialize;

const ORIGINS_MAX: usize = 32;
const VARIABLES_MAX: usize = 64;

/// `[grants]`
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct GrantsTable {
    wall_clock: bool,
    monotonic_clock: bool,
    randomness: bool,
    pub(crate) asset_files: bool,
    http: Origins,
    environment: Environment,
}

impl From<GrantsTable> for Grants {
    fn from(table: GrantsTable) -> Self {
        Self {
            wall_clock: table.wall_clock,
            monotonic_clock: table.monotonic_clock,
            randomness: table.randomness,
            environment: table.environment.0,
            asset_files: table.asset_files,
            http: table.http.0,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(try_from = "Vec<OriginText>")]
struct Origins(Vec<Origin>);

impl TryFrom<Vec<OriginText>> for Origins {
    type Error = String;

    fn try_from(origins: Vec<OriginText>) -> Result<Self, String> {
        match origins.len() {
            0..=ORIGINS_MAX => Ok(Self(origins.into_iter().map(|origin| origin.0).collect())),
            count => Err(format!("expected at most {ORIGINS_MAX} hosts, found {count}")),
        }
    }
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct OriginText(Origin);

impl TryFrom<String> for OriginText {
    type Error = OriginError;

    fn try_from(text: String) -> Result<Self, OriginError> {
        text.parse().map(Self)
    }
}

/// In the order of the names.
#[derive(Default, Deserialize)]
#[serde(try_from = "BTreeMap<VariableName, VariableValue>")]
struct Environment(Vec<(String, String)>);

impl TryFrom<BTreeMap<VariableName, VariableValue>> for Environment {
    type Error = String;

    fn try_from(variables: BTreeMap<VariableName, VariableValue>) -> Result<Self, String> {
        match variables.len() {
            0..=VARIABLES_MAX => Ok(Self(variables.into_iter().map(|(name, value)| (name.0, value.0)).collect())),
            count => Err(format!("expected at most {VARIABLES_MAX} variables, found {count}")),
        }
    }
}

/// What can be the name of an environment variable.
#[derive(PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct VariableName(pub(crate) String);

impl TryFrom<String> for VariableName {
    type Error = &'static str;

    fn try_from(name: String) -> Result<Self, &'static str> {
        if name.is_empty() || name.contains(['=', '\0']) {
            // Without the text: a secret may stand where its variable's name should.
            return Err("expected the name of an environment variable: not empty, without `=` and NUL");
        }
        Ok(Self(name))
    }
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct VariableValue(String);

impl TryFrom<String> for VariableValue {
    type Error = &'static str;

    fn try_from(value: String) -> Result<Self, &'static str> {
        if value.contains('\0') { Err("expected a text without NUL") } else { Ok(Self(value)) }
    }
}
