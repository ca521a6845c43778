//! Where the edge listens and every bound it keeps, with its default. Knows no configuration file.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

/// Where to listen, and within which bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeOptions {
    /// Where functions are served; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where metrics, health and the control plane are answered, outside every bound of `listen`.
    pub control: SocketAddr,
    /// TLS alone is spoken on `listen`; without, plain HTTP is.
    pub listen_tls: Option<TlsFiles>,
    /// The same for `control`.
    pub control_tls: Option<TlsFiles>,
    /// How often the files of both are looked at. A good idea is [`TlsFiles::INTERVAL`].
    pub tls_interval: Duration,
    /// The bounds.
    pub limits: EdgeLimits,
}

/// What a listener proves itself with, in PEM. Both may be one file, or links that are set to other files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's own certificate, and behind it those of its issuers, but for the last.
    pub certificate: PathBuf,
    /// Its private key, not encrypted.
    pub key: PathBuf,
}

impl TlsFiles {
    /// How often files are looked at by default: a certificate that is replaced has days left.
    pub const INTERVAL: Duration = Duration::from_secs(1);
}

/// The bounds of everything that a client can make the host hold or wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeLimits {
    /// Open connections; one more is told 503 and closed. Default 1024.
    pub connections_max: u32,
    /// Open connections of the control listener; one more is told 503 and closed. Default 64.
    pub control_connections_max: u32,
    /// Connections that the kernel holds until they are accepted. Default 1024.
    pub backlog: u32,
    /// HTTP/2: requests under way at once on one connection. Default 64.
    pub streams_max: u32,
    /// A request's line and headers, in bytes: 431 beyond. HTTP/1 takes at most 100 headers besides. Default 32 KiB.
    pub head_bytes_max: u32,
    /// A request's path and query, in bytes: 400 beyond. Default 8 KiB.
    pub uri_bytes_max: usize,
    /// All bodies that the host holds, of requests and of the functions' answers that are not written yet, in bytes: 503
    /// beyond. Of a deployment it holds the piece that has just arrived. Default 256 MiB.
    pub buffered_bytes_max: usize,
    /// From a head's first byte to its last: 408 beyond. Default 10 s.
    pub head_time: Duration,
    /// From a body's first byte to its last: 408 beyond. Default 30 s.
    pub body_time: Duration,
    /// How long a client may take for 64 KiB of its answer; then its connection is closed. Default 30 s.
    pub write_time: Duration,
    /// How long a connection may live without a request under way. Default 75 s.
    pub idle_time: Duration,
    /// HTTP/2: how long a connection may be silent before it is asked for a sign of life. Default 20 s.
    pub ping_interval: Duration,
    /// HTTP/2: how long that sign may take; then the connection is closed. Default 10 s.
    pub ping_time: Duration,
    /// What is read of a refused body so that the client sees the status, in bytes. Default 256 KiB.
    pub discard_bytes_max: usize,
    /// How long that may take. Default 500 ms.
    pub discard_time: Duration,
    /// What a deployment may send, in bytes: 413 beyond. Default 2 GiB.
    pub upload_bytes_max: u64,
    /// From the first byte of a deployment to its last: 408 beyond. Default 30 minutes.
    pub upload_time: Duration,
    /// How long a deployment may send nothing: 408 beyond. Default 30 s.
    pub upload_pause_time: Duration,
    /// What a deployment must send in the mean while it is waited for, in bytes a second, the time of one pause aside: 408 below.
    /// Default 32 KiB.
    pub upload_bytes_per_second_min: NonZeroU32,
    /// From the call for an end to the cutting of what still runs. Default 30 s.
    pub drain_time: Duration,
    /// While draining, how long a connection without a request is kept for one that may be on its way. Default 500 ms.
    pub drain_idle_time: Duration,
}

impl Default for EdgeLimits {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            control_connections_max: 64,
            backlog: 1024,
            streams_max: 64,
            head_bytes_max: 32 << 10,
            uri_bytes_max: 8 << 10,
            buffered_bytes_max: 256 << 20,
            head_time: Duration::from_secs(10),
            body_time: Duration::from_secs(30),
            write_time: Duration::from_secs(30),
            idle_time: Duration::from_secs(75),
            ping_interval: Duration::from_secs(20),
            ping_time: Duration::from_secs(10),
            discard_bytes_max: 256 << 10,
            discard_time: Duration::from_millis(500),
            upload_bytes_max: 2 << 30,
            upload_time: Duration::from_secs(30 * 60),
            upload_pause_time: Duration::from_secs(30),
            upload_bytes_per_second_min: const { NonZeroU32::new(32 << 10).unwrap() },
            drain_time: Duration::from_secs(30),
            drain_idle_time: Duration::from_millis(500),
        }
    }
}
