//! The command line, as clap reads it. Only shapes and words: nothing is done here.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Serves ONNX models with sandboxed WebAssembly pre- and postprocessing.
#[derive(Debug, Parser)]
#[command(name = "sandmill", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve functions over HTTP.
    Serve(ServeOptions),
    /// Load a function folder as `serve` would, without serving it, and say what it is.
    Check(CheckOptions),
    /// Turn a Rust plugin crate into a WebAssembly component.
    Build(BuildOptions),
    /// Call a function of a running server.
    Invoke(InvokeOptions),
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
    /// The server.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub(crate) server: String,
    /// The body's media type [default: application/json for a .json file, application/octet-stream for others].
    #[arg(long, value_name = "TYPE")]
    pub(crate) content_type: Option<String>,
    /// How long to wait for the answer, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) timeout: u64,
}
