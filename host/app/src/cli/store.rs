//! The shapes of what is done without a server: to a store itself, and to the profiles.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use sandmill_domain::TenantId;

use crate::client::ServerUrl;

#[derive(Debug, Args)]
pub(crate) struct InitOptions {
    /// The store: a folder, or an `s3://`, `gs://` or `az://` URL [default: $XDG_DATA_HOME/sandmill/store].
    #[arg(long, value_name = "LOCATION")]
    pub(crate) store: Option<String>,
    /// The profile that the key is saved in [default: default].
    #[arg(long, value_name = "NAME")]
    pub(crate) profile: Option<String>,
    /// Save the key nowhere: it is printed once.
    #[arg(long, conflicts_with = "profile")]
    pub(crate) no_profile: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorOptions {
    /// The store: a folder, or an `s3://`, `gs://` or `az://` URL [default: $XDG_DATA_HOME/sandmill/store].
    #[arg(long, value_name = "LOCATION")]
    pub(crate) store: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ProfileOptions {
    #[command(subcommand)]
    pub(crate) command: ProfileCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProfileCommand {
    /// Make a profile, or change what is given of it.
    Set(Box<ProfileSetOptions>),
    /// All profiles; of their keys the ids.
    List,
    /// Forget a profile, with its key.
    Remove {
        /// Which.
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ProfileSetOptions {
    /// Which.
    pub(crate) name: String,
    /// The server's control address.
    #[arg(long, value_name = "URL", value_parser = ServerUrl::parse)]
    pub(crate) control: Option<ServerUrl>,
    /// Where the server answers functions.
    #[arg(long, value_name = "URL", value_parser = ServerUrl::parse)]
    pub(crate) functions: Option<ServerUrl>,
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
