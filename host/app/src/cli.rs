//! The command line, as clap reads it. Only shapes and words: nothing is done here.

mod access;
mod remote;
mod store;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

pub(crate) use self::access::{KeyArguments, KeysCommand, TenantsCommand, TermArguments};
pub(crate) use self::remote::{
    AuditOptions, DeleteOptions, DeployOptions, DifferenceOptions, FunctionsOptions, KeysOptions, LogsOptions, OwnerOptions,
    ReleasesOptions, RemoteOptions, RollBackOptions, TenantsOptions, UploadsCommand, UploadsOptions, UsageOptions, WhoAmIOptions,
    WhoOptions,
};
pub(crate) use self::store::{DoctorOptions, InitOptions, ProfileCommand, ProfileOptions, ProfileSetOptions};
use crate::client::ServerUrl;

/// What scripts go by.
const EXIT_CODES: &str = "Exit codes:
  0  done
  1  failed, here or in the server (5xx)
  2  the command line is wrong
  3  refused by the server (4xx)
  4  the server cannot be reached

A server and its key come from a profile (`sandmill profile`), over it the environment (SANDMILL_CONTROL, SANDMILL_FUNCTIONS, \
SANDMILL_KEY, SANDMILL_TENANT), over both the command line.";

/// Serves ONNX models with sandboxed WebAssembly pre- and postprocessing.
#[derive(Debug, Parser)]
#[command(name = "sandmill", version, arg_required_else_help = true, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    /// Print JSON: the server's answer as it came, or an object of its own; problems, too.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a store with the first operator's key, to be served with `serve --store`.
    Init(InitOptions),
    /// Serve functions over HTTP.
    Serve(ServeOptions),
    /// Begin a function: a folder with a plugin, a model and a test.
    New(NewOptions),
    /// Turn a Rust plugin crate into a WebAssembly component.
    Build(BuildOptions),
    /// Load a function folder as `serve` would, without serving it, and say what it is.
    Check(CheckOptions),
    /// Make a release of a function folder on a running server.
    Deploy(DeployOptions),
    /// Call a function of a running server.
    Invoke(InvokeOptions),
    /// List the functions.
    Functions(FunctionsOptions),
    /// List a function's releases.
    Releases(ReleasesOptions),
    /// Let an earlier release answer again.
    #[command(name = "rollback")]
    RollBack(RollBackOptions),
    /// Say what two releases of a function differ in.
    Difference(DifferenceOptions),
    /// Delete a function with all its releases.
    Delete(DeleteOptions),
    /// Say whose key it is, and what it allows.
    #[command(name = "whoami")]
    WhoAmI(WhoAmIOptions),
    /// List, add and delete plugins that functions name.
    Plugins(UploadsOptions),
    /// List, add and delete models that functions name.
    Models(UploadsOptions),
    /// List, make and revoke keys.
    Keys(KeysOptions),
    /// List, add, change and remove tenants; for operators.
    Tenants(TenantsOptions),
    /// Say who changed what, and when.
    Audit(AuditOptions),
    /// Print what a function's plugins said, and why they failed.
    Logs(LogsOptions),
    /// Say what functions used, hour by hour.
    Usage(UsageOptions),
    /// Remember a server, and the key for it.
    Profile(ProfileOptions),
    /// Look through a store: every record, every upload. It changes nothing.
    Doctor(DoctorOptions),
    /// Print a script that completes this command line.
    Completions(CompletionsOptions),
    /// Print the version, and those of what it is built on.
    Version,
    /// What a server starts for itself, to compile components apart from all else.
    #[command(hide = true)]
    Quarantine,
    /// The same, to try models.
    #[command(hide = true)]
    QuarantineModel,
}

#[derive(Debug, Args)]
pub(crate) struct ServeOptions {
    /// The configuration file (TOML); without one, every setting has its default.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// A function folder (one with a function.toml), or a folder of such folders; may be given more than once.
    #[arg(long = "function", value_name = "DIR")]
    pub(crate) functions: Vec<PathBuf>,
    /// The store that tenants' functions are served from, in place of folders: a folder, or an `s3://`, `gs://` or `az://` URL.
    #[arg(long, value_name = "LOCATION")]
    pub(crate) store: Option<String>,
    /// Where to serve, over the configuration's `listen` [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,
    /// Where to answer metrics and health, over the configuration's `control` [default: 127.0.0.1:8081].
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) control: Option<SocketAddr>,
}

#[derive(Debug, Args)]
pub(crate) struct NewOptions {
    /// The function's name, and the folder's, which must not be there yet.
    #[arg(value_name = "NAME")]
    pub(crate) folder: PathBuf,
    /// What the plugin is written in.
    #[arg(long, value_enum, default_value_t = Language::Rust)]
    pub(crate) lang: Language,
}

/// What a plugin is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Language {
    /// Built by cargo.
    Rust,
    /// Built by npm.
    Js,
    /// Built by pip's componentize-py.
    Python,
}

#[derive(Debug, Args)]
pub(crate) struct CheckOptions {
    /// The function folder, or a folder of such folders.
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// The configuration file whose limits and runtime library apply.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct BuildOptions {
    /// The folder of the plugin's crate.
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Where to write the component [default: DIR/NAME.wasm].
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct InvokeOptions {
    /// The function's name, optionally with a path behind it: `file-type`, `orders/2024?full=1`.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// The file to send; `-` or nothing reads standard input.
    #[arg(value_name = "FILE", default_value = "-")]
    pub(crate) file: PathBuf,
    /// The server [default: the profile's `functions`, or http://127.0.0.1:8080].
    #[arg(long, value_name = "URL", value_parser = ServerUrl::parse)]
    pub(crate) server: Option<ServerUrl>,
    #[command(flatten)]
    pub(crate) who: WhoOptions,
    /// The body's media type [default: application/json for a .json file, application/octet-stream for others].
    #[arg(long, value_name = "TYPE")]
    pub(crate) content_type: Option<String>,
    /// How long to wait for the answer, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) timeout: u64,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsOptions {
    /// Whose.
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
