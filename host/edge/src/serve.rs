//! The server's life: bind, serve, drain. Reads as prose; the work is in `listen` and `connection`.

use std::future::{Future, pending};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sandmill_domain::ports::{Control, Keys, Service};
use sandmill_telemetry::Telemetry;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::connection::{Context, Phase};
use crate::listen::{Acceptor, BindError, bind};
use crate::options::EdgeOptions;
use crate::reload::{self, Tls};
use crate::request::Listener;
use crate::shared::Shared;

/// How long connections that were cut may take to notice: one that computes looks up only then.
const CUT_TIME: Duration = Duration::from_secs(1);

/// How much longer than `drain_idle_time`, when idle ones go by themselves, connections of the control listener have to close.
const CONTROL_GRACE: Duration = Duration::from_secs(1);

/// What stands behind the listeners.
pub struct EdgeParts {
    /// Everything that is served.
    pub service: Arc<dyn Service>,
    /// Who may ask for what.
    pub keys: Arc<dyn Keys>,
    /// What is asked below `/v1` of the control listener; nothing without.
    pub control: Option<Arc<dyn Control>>,
    /// Where requests are recorded, and what `/metrics` shows.
    pub telemetry: Arc<Telemetry>,
    /// Of the server, as clients of the Open Inference Protocol are told.
    pub version: &'static str,
}

/// Both listeners, bound and not serving yet.
pub struct Edge {
    shared: Arc<Shared>,
    functions: TcpListener,
    control: TcpListener,
    functions_tls: Option<Arc<Tls>>,
    control_tls: Option<Arc<Tls>>,
    tls_interval: Duration,
    addresses: Addresses,
}

/// Where the server listens; the ports are the real ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Functions.
    pub listen: SocketAddr,
    /// Metrics, health and the control plane.
    pub control: SocketAddr,
    /// Whether TLS is spoken on `listen`.
    pub listen_tls: bool,
    /// Whether TLS is spoken on `control`.
    pub control_tls: bool,
}

impl Addresses {
    /// Where functions are called, as clients write it.
    pub fn listen_url(&self) -> String {
        url(self.listen, self.listen_tls)
    }

    /// Where metrics and health are asked for.
    pub fn control_url(&self) -> String {
        url(self.control, self.control_tls)
    }
}

/// How serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Whether every request that had begun was finished.
    pub clean: bool,
    /// Connections that were cut because they took longer than `drain_time`.
    pub cut: usize,
}

impl Edge {
    /// Reads what TLS needs and binds both listeners. Must be called within a tokio runtime, which it blocks for milliseconds.
    ///
    /// # Errors
    /// If an address is taken, forbidden or not this machine's, or a certificate or key is not there or no client would accept
    /// it: in words for the person who starts the server.
    pub fn bind(options: EdgeOptions, parts: EdgeParts) -> Result<Self, BindError> {
        let backlog = options.limits.backlog;
        let tls = |files: Option<_>, listener| files.map(|files| Tls::open(files, listener, &parts.telemetry)).transpose();
        let (functions_tls, control_tls) = (tls(options.listen_tls, "listen")?, tls(options.control_tls, "control")?);
        let (functions, listen) = bind(options.listen, "listen", backlog)?;
        let (control, control_address) = bind(options.control, "control", backlog)?;
        let shared = Arc::new(Shared::new(parts, options.limits));
        let addresses = Addresses {
            listen,
            control: control_address,
            listen_tls: functions_tls.is_some(),
            control_tls: control_tls.is_some(),
        };
        Ok(Self { shared, functions, control, functions_tls, control_tls, tls_interval: options.tls_interval, addresses })
    }

    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Serves until `stop`, then drains: not ready any more, no new connections, every request that has begun is finished
    /// within `drain_time`. The control listener answers until the end.
    ///
    /// Dropping the future closes all connections.
    pub async fn serve(self, stop: impl Future<Output = ()>) -> Drained {
        let limits = self.shared.limits.clone();
        let (functions_tls, control_tls) = (self.functions_tls, self.control_tls);
        let certificates = [functions_tls.clone(), control_tls.clone()];
        let [of_functions, of_control] = certificates.map(|tls| reload::watch(tls, self.tls_interval, &self.shared.telemetry));
        let (phase, functions) = acceptor(&self.shared, Listener::Functions, functions_tls, limits.connections_max);
        let (control_phase, control) = acceptor(&self.shared, Listener::Control, control_tls, limits.control_connections_max);
        let drained = tokio::select! {
            drained = async {
                functions.accept(self.functions, stop).await;
                self.shared.drain();
                drain(&phase, &functions, limits.drain_time).await
            } => drained,
            // None of these ends.
            _ = async { tokio::join!(control.accept(self.control, pending()), of_functions, of_control) } => {
                Drained { clean: false, cut: 0 }
            }
        };
        drain(&control_phase, &control, limits.drain_idle_time + CONTROL_GRACE).await;
        drained
    }
}

fn url(address: SocketAddr, tls: bool) -> String {
    format!("{}://{address}", if tls { "https" } else { "http" })
}

fn acceptor(
    shared: &Arc<Shared>,
    listener: Listener,
    tls: Option<Arc<Tls>>,
    connections_max: u32,
) -> (watch::Sender<Phase>, Acceptor) {
    let (sender, phase) = watch::channel(Phase::Serving);
    (sender, Acceptor::new(Context { shared: Arc::clone(shared), listener, tls, phase }, connections_max))
}

/// Lets connections finish for `time`, then cuts them.
async fn drain(phase: &watch::Sender<Phase>, acceptor: &Acceptor, time: Duration) -> Drained {
    phase.send_replace(Phase::Draining);
    if timeout(time, acceptor.emptied()).await.is_ok() {
        return Drained { clean: true, cut: 0 };
    }
    let cut = acceptor.open();
    tracing::warn!(connections = cut, "cut connections that did not finish in time");
    phase.send_replace(Phase::Cut);
    let _some_still_compute = timeout(CUT_TIME, acceptor.emptied()).await;
    Drained { clean: false, cut }
}
