//! Listening sockets: binding them, and accepting connections under a bound. Knows nothing of what they carry.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sandmill_domain::{Code, Fault};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

use crate::connection::{self, Context};
use crate::linger::{self, Patience};
use crate::request::Listener;
use crate::status;
use crate::tls::TlsError;

/// How long to wait for a file descriptor or memory when there is none for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections that are being refused at once; beyond that they are closed without a word.
const REFUSALS_MAX: usize = 64;
/// What the kernel holds of an answer that it has not sent yet, in bytes, before it takes more: less than a chunk, so that a
/// chunk waits for no more than its own size to be read.
const UNSENT_BYTES_MAX: u32 = 16 << 10;

/// The server cannot listen where, or as, it was told to.
#[derive(Debug, Error)]
pub enum BindError {
    /// Somebody else listens there.
    #[error(
        "cannot listen on {address}: it is in use; stop what listens there, or choose another with `{setting}` (`--{setting}`)"
    )]
    InUse {
        /// Where.
        address: SocketAddr,
        /// The setting that says so.
        setting: &'static str,
    },
    /// The system does not let us.
    #[error("cannot listen on {address}: permission denied; {}", advice(.address, .setting))]
    Denied {
        /// Where.
        address: SocketAddr,
        /// The setting that says so.
        setting: &'static str,
    },
    /// No interface of this machine has the address.
    #[error("cannot listen on {address}: this machine has no such address; change `{setting}` (`--{setting}`)")]
    NoSuchAddress {
        /// Where.
        address: SocketAddr,
        /// The setting that says so.
        setting: &'static str,
    },
    /// Something else.
    #[error("cannot listen on {address} (`{setting}`): {source}")]
    Other {
        /// Where.
        address: SocketAddr,
        /// The setting that says so.
        setting: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// Its certificate or key.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

fn advice(address: &SocketAddr, setting: &str) -> String {
    let port = address.port();
    match port {
        1..1024 => {
            format!("port {port} is below 1024 and needs CAP_NET_BIND_SERVICE; choose another with `{setting}` (`--{setting}`)")
        }
        _ => format!("choose another with `{setting}` (`--{setting}`)"),
    }
}

/// A listening socket on `address`, which `setting` names. Must be called within a tokio runtime.
pub(crate) fn bind(address: SocketAddr, setting: &'static str, backlog: u32) -> Result<(TcpListener, SocketAddr), BindError> {
    let listener = open(address, backlog).and_then(|listener| listener.local_addr().map(|bound| (listener, bound)));
    listener.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse { address, setting },
        io::ErrorKind::PermissionDenied => BindError::Denied { address, setting },
        io::ErrorKind::AddrNotAvailable => BindError::NoSuchAddress { address, setting },
        _ => BindError::Other { address, setting, source },
    })
}

fn open(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Otherwise a restart waits for the connections of the last run to leave TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    TcpListener::from_std(socket.into())
}

/// Gives accepted connections a permit and a task, or refuses them.
///
/// At the bound a connection is told 503 and closed instead of left in the backlog: the client can go elsewhere at once.
pub(crate) struct Acceptor {
    context: Context,
    connections_max: u32,
    backlog: u32,
    permits: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
}

impl Acceptor {
    pub(crate) fn new(context: Context, connections_max: u32) -> Self {
        let permits = Arc::new(Semaphore::new(connections_max as usize));
        let backlog = context.shared.limits.backlog;
        Self { context, connections_max, backlog, permits, refusals: Arc::new(Semaphore::new(REFUSALS_MAX)) }
    }

    /// Accepts until `stop`, and then what the backlog already holds.
    pub(crate) async fn accept(&self, listener: TcpListener, stop: impl Future<Output = ()>) {
        tokio::select! {
            biased;
            () = stop => {}
            () = self.accept_forever(&listener) => {}
        }
        // The runtime may not have heard of the last connections yet: the kernel is asked itself.
        let Ok(listener) = listener.into_std() else { return };
        accept_queued(&listener, self.backlog, |stream| {
            if stream.set_nonblocking(true).is_ok()
                && let Ok(stream) = TcpStream::from_std(stream)
            {
                self.admit(stream);
            }
        });
    }

    /// Waits until no connection is left.
    pub(crate) async fn emptied(&self) {
        let _never_closed = self.permits.acquire_many(self.connections_max).await;
    }

    /// How many connections are open.
    pub(crate) fn open(&self) -> usize {
        self.connections_max as usize - self.permits.available_permits()
    }

    async fn accept_forever(&self, listener: &TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _peer)) => self.admit(stream),
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection, trying again");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn admit(&self, stream: TcpStream) {
        // Heads and bodies are written together: nothing is gained by waiting for more.
        let _only_slower = stream.set_nodelay(true);
        // Else the kernel takes megabytes of an answer and then says for a long time that it has no room, also to a client
        // that reads steadily: it would look stalled.
        let _only_stricter = SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT_BYTES_MAX);
        match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => self.serve(stream, permit),
            Err(_none_left) => self.refuse(stream),
        }
    }

    fn serve(&self, stream: TcpStream, permit: OwnedSemaphorePermit) {
        let context = self.context.clone();
        let counted = (context.listener == Listener::Functions).then(|| context.shared.telemetry.connect());
        tokio::spawn(async move {
            Box::pin(connection::serve(stream, context)).await;
            drop((counted, permit));
        });
    }

    fn full(&self) -> Fault {
        let setting = match self.context.listener {
            Listener::Functions => "connections_max",
            Listener::Control => "control_connections_max",
        };
        Fault::new(Code::Overloaded, format!("the host has {} connections open, its limit ({setting})", self.connections_max))
    }

    fn refuse(&self, stream: TcpStream) {
        let fault = self.full();
        self.context.shared.record_refusal(&fault, status::status(fault.code));
        let Ok(permit) = Arc::clone(&self.refusals).try_acquire_owned() else { return };
        let patience = Patience::new(&self.context.shared.limits);
        let tls = self.context.tls.as_ref().map(|tls| tls.identity());
        tokio::spawn(async move {
            match tls {
                None => linger::refuse(stream, &fault, patience).await,
                Some(identity) => linger::refuse_tls(stream, Arc::clone(&identity.refusing), &fault, patience).await,
            }
            drop(permit);
        });
    }
}

/// Accepts what a non-blocking `listener` holds, without waiting, and at most what a `backlog` can hold at once: whoever goes
/// on connecting cannot keep it busy.
fn accept_queued(listener: &std::net::TcpListener, backlog: u32, mut admit: impl FnMut(std::net::TcpStream)) {
    // Linux holds one more than it is told.
    for _ in 0..=backlog {
        match listener.accept() {
            Ok((stream, _peer)) => admit(stream),
            Err(error) if concerns_one_connection(&error) => {}
            Err(_none_left) => return,
        }
    }
}

/// Whether an error of `accept` is about the connection that was to be accepted and no other.
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::{BindError, SocketAddr, accept_queued};

    #[test]
    fn the_last_look_at_the_backlog_has_a_bound() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("bound");
        let waiting: Vec<_> = (0..10).map(|_| TcpStream::connect(address).expect("room in the backlog")).collect();
        for expected in [4, 4, 2, 0] {
            let mut accepted = 0;
            accept_queued(&listener, 3, |_stream| accepted += 1);
            assert_eq!(accepted, expected);
        }
        drop(waiting);
    }

    #[test]
    fn a_denied_port_says_what_it_needs() {
        let error = |port| BindError::Denied { address: SocketAddr::from(([127, 0, 0, 1], port)), setting: "listen" }.to_string();
        assert!(error(80).contains("CAP_NET_BIND_SERVICE"), "{}", error(80));
        assert!(!error(8080).contains("CAP_NET_BIND_SERVICE"), "{}", error(8080));
        assert!(error(80).contains("--listen"));
    }
}
