//! The shapes of what is asked of a running server: which one, by whom, about whose things, and what.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand};
use sandmill_domain::control::Version;
use sandmill_domain::{FunctionName, Label, TenantId};

use super::access::seconds;
use super::{KeysCommand, TenantsCommand};
use crate::client::ServerUrl;

/// By whom something is asked.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct WhoOptions {
    /// The profile that server and key come from [default: default].
    #[arg(long, value_name = "NAME")]
    pub(crate) profile: Option<String>,
    /// A file with the key; `-` reads standard input.
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// Whose things are meant; for an operator's key, which belongs to no tenant.
    #[arg(long, value_name = "NAME", value_parser = TenantId::new)]
    pub(crate) tenant: Option<TenantId>,
    /// A PEM file of authorities that are trusted besides the public ones.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
}

/// Which server is asked, and by whom.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct RemoteOptions {
    /// The server's control address [default: the profile's, or http://127.0.0.1:8081].
    #[arg(long, value_name = "URL", value_parser = ServerUrl::parse)]
    pub(crate) control: Option<ServerUrl>,
    #[command(flatten)]
    pub(crate) who: WhoOptions,
    /// How long to wait for the answer, in seconds [default: 60, and 1800 for deployments and uploads].
    #[arg(long, value_name = "SECONDS")]
    pub(crate) timeout: Option<u64>,
}

/// The same for what tenants have, and the operators have as well: keys and a history.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct OwnerOptions {
    /// The operators' own, and no tenant's.
    #[arg(long, conflicts_with = "tenant")]
    pub(crate) operators: bool,
    #[command(flatten)]
    pub(crate) remote: RemoteOptions,
}

#[derive(Debug, Args)]
pub(crate) struct DeployOptions {
    /// The function folder.
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Do everything but the release itself.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask.
    #[arg(long, short)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) remote: RemoteOptions,
}

#[derive(Debug, Args)]
pub(crate) struct FunctionsOptions {
    #[command(flatten)]
    pub(crate) remote: RemoteOptions,
}

#[derive(Debug, Args)]
pub(crate) struct ReleasesOptions {
    /// Whose.
    #[arg(value_parser = FunctionName::new)]
    pub(crate) function: FunctionName,
    #[command(flatten)]
    pub(crate) remote: RemoteOptions,
}

#[derive(Debug, Args)]
pub(crate) struct RollBackOptions {
    /// Whose.
    #[arg(value_parser = FunctionName::new)]
    pub(crate) function: FunctionName,
    /// To which release [default: the one that answered last].
    #[arg(long, value_name = "NUMBER")]
    pub(crate) to: Option<NonZeroU64>,
    /// Do not ask.
    #[arg(long, short)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) remote: RemoteOptions,
}

#[derive(Debug, Args)]
pub(crate) struct DifferenceOptions {
    /// Whose.
    #[arg(value_parser = FunctionName::new)]
    pub(crate) function: FunctionName,
    /// From this release
    pub(crate) from: NonZeroU64,
    /// to this.
    pub(crate) to: NonZeroU64,
    #[command(flatten)]
    pub(crate) remote: RemoteOptions,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteOptions {
    /// Which.
    #[arg(value_parser = FunctionName::new)]
    pub(crate) function: FunctionName,
    /// Do not ask.
    #[arg(long, short)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) remote: RemoteOptions,
}

#[derive(Debug, Args)]
pub(crate) struct WhoAmIOptions {
    #[command(flatten)]
    pub(crate) remote: RemoteOptions,
}

#[derive(Debug, Args)]
pub(crate) struct AuditOptions {
    /// Only what came after this revision.
    #[arg(long, value_name = "REVISION", default_value_t = 0)]
    pub(crate) after: u64,
    #[command(flatten)]
    pub(crate) owner: OwnerOptions,
}

#[derive(Debug, Args)]
pub(crate) struct LogsOptions {
    /// Whose.
    #[arg(value_parser = FunctionName::new)]
    pub(crate) function: FunctionName,
    /// Go on as lines come, until Ctrl-C.
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Only what came after the line of this number.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub(crate) after: u64,
    #[command(flatten)]
    pub(crate) remote: RemoteOptions,
}

#[derive(Debug, Args)]
pub(crate) struct UsageOptions {
    /// How far back, such as 24h, 30d or 52w.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = seconds)]
    pub(crate) last: u64,
    #[command(flatten)]
    pub(crate) remote: RemoteOptions,
}

#[derive(Debug, Args)]
pub(crate) struct UploadsOptions {
    #[command(subcommand)]
    pub(crate) command: UploadsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum UploadsCommand {
    /// All of them, with their versions.
    List {
        #[command(flatten)]
        remote: RemoteOptions,
    },
    /// What is known of one, version by version.
    Show {
        /// Which.
        #[arg(value_parser = |name: &str| Label::new(name))]
        name: Label,
        #[command(flatten)]
        remote: RemoteOptions,
    },
    /// Add a version, which is tried first, and never changed.
    Add {
        /// Under which name and version, such as resize@1.2.0.
        #[arg(value_name = "NAME@VERSION", value_parser = Version::from_str)]
        version: Version,
        /// The component or the ONNX file; or a tar archive, packed or not, of `model.onnx` and what belongs to it.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        remote: RemoteOptions,
    },
    /// Delete a version that no kept release is made of.
    Remove {
        /// Which.
        #[arg(value_name = "NAME@VERSION", value_parser = Version::from_str)]
        version: Version,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
        #[command(flatten)]
        remote: RemoteOptions,
    },
}

#[derive(Debug, Args)]
pub(crate) struct KeysOptions {
    #[command(subcommand)]
    pub(crate) command: KeysCommand,
}

#[derive(Debug, Args)]
pub(crate) struct TenantsOptions {
    #[command(subcommand)]
    pub(crate) command: TenantsCommand,
}
