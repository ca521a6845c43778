//! The shapes of what is asked about keys and tenants.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use sandmill_domain::control::Quotas;
use sandmill_domain::{Scope, TenantId};

use super::{OwnerOptions, RemoteOptions};

const SCOPES: [Scope; 3] = [Scope::Invoke, Scope::Deploy, Scope::Admin];

/// The names of quotas, as the server has them.
const QUOTAS: [&str; 10] = [
    "requests_per_second_max",
    "concurrency_max",
    "instances_max",
    "guest_memory_bytes_max",
    "buffered_bytes_max",
    "functions_max",
    "plugins_max",
    "models_max",
    "upload_bytes_max",
    "stored_bytes_max",
];

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// All keys, without their secrets.
    List {
        #[command(flatten)]
        owner: OwnerOptions,
    },
    /// Make a key; its secret is printed once.
    Add(KeyArguments),
    /// A key stops.
    Revoke {
        /// Its id, as `keys list` shows it.
        #[arg(value_name = "ID")]
        id: String,
        #[command(flatten)]
        owner: OwnerOptions,
    },
}

#[derive(Debug, Args)]
pub(crate) struct KeyArguments {
    /// What it allows; may be given more than once.
    #[arg(long = "scope", required = true, value_delimiter = ',', value_parser = scopes())]
    pub(crate) scopes: Vec<Scope>,
    /// What people call it.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) label: String,
    /// For how long it lasts, such as 12h, 30d or 52w [default: for ever].
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    pub(crate) expires_in: Option<u64>,
    #[command(flatten)]
    pub(crate) owner: OwnerOptions,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TenantsCommand {
    /// All tenants.
    List {
        #[command(flatten)]
        remote: RemoteOptions,
    },
    /// Add one.
    Add(TermArguments),
    /// Say anew what one may use: what is not given is as the server has it by default.
    Set(TermArguments),
    /// One is served no more, and its name is never given again.
    Remove {
        /// Which.
        #[arg(value_parser = TenantId::new)]
        name: TenantId,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
        #[command(flatten)]
        remote: RemoteOptions,
    },
}

#[derive(Debug, Args)]
pub(crate) struct TermArguments {
    /// Which.
    #[arg(value_parser = TenantId::new)]
    pub(crate) name: TenantId,
    /// Its share where tenants compete.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) weight: u32,
    /// A bound, such as functions_max=10; may be given more than once.
    #[arg(long = "quota", value_name = "NAME=NUMBER", value_parser = quota, num_args = 1..)]
    pub(crate) quotas: Vec<QuotaArgument>,
    #[command(flatten)]
    pub(crate) remote: RemoteOptions,
}

/// One bound of a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QuotaArgument {
    name: &'static str,
    max: u64,
}

impl QuotaArgument {
    /// Puts it among the others; the last of one name counts.
    pub(crate) fn set(self, quotas: &mut Quotas) {
        let place = match self.name {
            "requests_per_second_max" => &mut quotas.requests_per_second_max,
            "concurrency_max" => &mut quotas.concurrency_max,
            "instances_max" => &mut quotas.instances_max,
            "guest_memory_bytes_max" => &mut quotas.guest_memory_bytes_max,
            "buffered_bytes_max" => &mut quotas.buffered_bytes_max,
            "functions_max" => &mut quotas.functions_max,
            "plugins_max" => &mut quotas.plugins_max,
            "models_max" => &mut quotas.models_max,
            "upload_bytes_max" => &mut quotas.upload_bytes_max,
            _ => &mut quotas.stored_bytes_max,
        };
        *place = Some(self.max);
    }
}

fn scopes() -> impl TypedValueParser<Value = Scope> {
    PossibleValuesParser::new(SCOPES.map(Scope::as_str)).map(|name| {
        let scope = SCOPES.into_iter().find(|scope| scope.as_str() == name);
        scope.expect("invariant: it is one of the possible values")
    })
}

fn quota(text: &str) -> Result<QuotaArgument, String> {
    let (name, max) = text.split_once('=').ok_or("a quota has the form NAME=NUMBER")?;
    let known = || format!("there is no quota `{name}`; there are {}", QUOTAS.join(", "));
    let name = QUOTAS.into_iter().find(|known| *known == name).ok_or_else(known)?;
    let max = max.parse().map_err(|_error| format!("`{max}` is no whole number"))?;
    Ok(QuotaArgument { name, max })
}

/// A time that people write.
pub(super) fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || "a time is a number and a unit, such as 45s, 30m, 12h, 30d or 52w".to_owned();
    let unit = match text.chars().next_back() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 24 * 3600,
        Some('w') => 7 * 24 * 3600,
        _ => return Err(wrong()),
    };
    let count: u64 = text[..text.len() - 1].parse().map_err(|_error| wrong())?;
    count.checked_mul(unit).filter(|seconds| *seconds > 0).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        let good = [("45s", 45), ("2m", 120), ("12h", 43_200), ("30d", 2_592_000), ("1w", 604_800)];
        for (text, expected) in good {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
        for text in ["", "d", "30", "-1d", "1.5h", "0s", "30 d", "18446744073709551615w", "3é"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_quota_has_its_place() {
        let mut quotas = Quotas::default();
        for (at, name) in QUOTAS.iter().enumerate() {
            quota(&format!("{name}={}", at + 1)).expect("a quota").set(&mut quotas);
        }
        let written = serde_json::to_value(quotas).expect("JSON");
        for (at, name) in QUOTAS.iter().enumerate() {
            assert_eq!(written[*name], at + 1, "{name}");
        }
        assert_eq!(written.as_object().expect("an object").len(), QUOTAS.len());
        for text in ["functions_max", "functions_max=", "functions_max=-1", "disks_max=1", "=1"] {
            assert!(quota(text).is_err(), "{text}");
        }
    }
}
