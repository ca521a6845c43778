//! The host's configuration: TOML, every key optional, unknown keys refused, all mistakes told at once.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sandmill_telemetry::LogFormat;
use serde::Deserialize;

/// The largest configuration file, in bytes.
const FILE_BYTES_MAX: u64 = 256 << 10;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Where functions are served.
    pub(crate) listen: SocketAddr,
    /// Where metrics and health are answered.
    pub(crate) control: SocketAddr,
    /// Whether `listen` and `control` may be other than loopback although there are no keys yet.
    pub(crate) expose_without_keys: bool,
    /// Function folders, or folders of them, relative to the configuration file.
    pub(crate) functions: Vec<PathBuf>,
    /// Threads that carry requests; as many as there are cores by default.
    pub(crate) threads: Option<usize>,
    pub(crate) log: Log,
    pub(crate) engine: Engine,
    pub(crate) sandbox: Sandbox,
    pub(crate) edge: Edge,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            control: SocketAddr::from(([127, 0, 0, 1], 8081)),
            expose_without_keys: false,
            functions: Vec::new(),
            threads: None,
            log: Log::default(),
            engine: Engine::default(),
            sandbox: Sandbox::default(),
            edge: Edge::default(),
        }
    }
}

/// `[log]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    /// `info`, or `info,access=warn` for no access lines.
    pub(crate) filter: String,
    /// `text` or `json`.
    pub(crate) format: Format,
}

impl Default for Log {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: Format::Text }
    }
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    Text,
    Json,
}

impl From<Format> for LogFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Text => Self::Text,
            Format::Json => Self::Json,
        }
    }
}
