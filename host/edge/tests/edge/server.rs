//! A server for one test: any free ports, its own metrics. Knows the edge by its public face.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sandmill_domain::ports::{Control, Keys};
use sandmill_edge::{Addresses, Drained, Edge, EdgeLimits, EdgeOptions, EdgeParts, TlsFiles};
use sandmill_telemetry::Telemetry;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::client::Client;
use crate::fake::Fake;
use crate::fake_keys::{FakeKeys, NoKeys};
use crate::fake_plane::FakePlane;

/// Long enough for a busy machine; a test that waits so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Server {
    pub(crate) addresses: Addresses,
    pub(crate) fake: Arc<Fake>,
    pub(crate) plane: Arc<FakePlane>,
    pub(crate) telemetry: Arc<Telemetry>,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<Drained>,
}

impl Server {
    /// A server with `limits`, without keys and without a control plane.
    pub(crate) fn start(limits: EdgeLimits) -> Self {
        Self::with(options(limits))
    }

    /// A server with `limits`, with keys and a control plane.
    pub(crate) fn start_guarded(limits: EdgeLimits) -> Self {
        let plane = FakePlane::new();
        let control = Arc::clone(&plane) as Arc<dyn Control>;
        Self::behind(options(limits), Arc::new(FakeKeys), Some(control), plane)
    }

    /// A server with keys and without a control plane.
    pub(crate) fn start_without_plane() -> Self {
        Self::behind(options(EdgeLimits::default()), Arc::new(FakeKeys), None, FakePlane::new())
    }

    /// A server that speaks TLS on both listeners, with `limits`, and looks at `files` all the time.
    pub(crate) fn start_tls(limits: EdgeLimits, files: &TlsFiles) -> Self {
        let (listen_tls, control_tls) = (Some(files.clone()), Some(files.clone()));
        Self::with(EdgeOptions { listen_tls, control_tls, ..options(limits) })
    }

    fn with(options: EdgeOptions) -> Self {
        Self::behind(options, Arc::new(NoKeys), None, FakePlane::new())
    }

    fn behind(options: EdgeOptions, keys: Arc<dyn Keys>, control: Option<Arc<dyn Control>>, plane: Arc<FakePlane>) -> Self {
        let fake = Fake::new();
        let telemetry = Arc::new(Telemetry::new("0", "0").unwrap());
        let parts = EdgeParts { service: fake.service(), keys, control, telemetry: Arc::clone(&telemetry), version: "1.2.3" };
        let edge = Edge::bind(options, parts).unwrap();
        let addresses = edge.addresses();
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(edge.serve(async { _ = stopped.await }));
        Self { addresses, fake, plane, telemetry, stop: Some(stop), serving }
    }

    /// A client of the functions' listener.
    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.addresses.listen).await
    }

    /// A client of the control listener.
    pub(crate) async fn control(&self) -> Client {
        Client::connect(self.addresses.control).await
    }

    /// Calls for the end.
    pub(crate) fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// How serving ended.
    pub(crate) async fn drained(self) -> Drained {
        tokio::time::timeout(PATIENCE, self.serving).await.expect("the drain ends").unwrap()
    }

    /// The value of the metric that the line beginning with `name` and `labels` has; 0 if there is none.
    pub(crate) fn metric(&self, name_and_labels: &str) -> f64 {
        let text = String::from_utf8(self.telemetry.render(None).unwrap()).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name_and_labels)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// How many requests of `function` were recorded with `status`.
    pub(crate) fn requests(&self, function: &str, status: &str) -> f64 {
        let tenant = if function == "-" { "-" } else { "default" };
        ["function", "oip", "other"]
            .map(|form| {
                let labels = format!(r#"form="{form}",function="{function}",status="{status}",tenant="{tenant}""#);
                self.metric(&format!("sandmill_requests_total{{{labels}}}"))
            })
            .iter()
            .sum()
    }

    /// How many faults of `function` were recorded with `code`, all of them the caller's.
    pub(crate) fn caller_faults(&self, function: &str, code: &str) -> f64 {
        let tenant = if function == "-" { "-" } else { "default" };
        let labels = format!(r#"blame="caller",code="{code}",function="{function}",tenant="{tenant}""#);
        self.metric(&format!("sandmill_faults_total{{{labels}}}"))
    }
}

/// Any free ports, in plain text.
pub(crate) fn options(limits: EdgeLimits) -> EdgeOptions {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let tls_interval = Duration::from_millis(5);
    EdgeOptions { listen: any, control: any, listen_tls: None, control_tls: None, tls_interval, limits }
}

/// What stands behind a server that is not there to be called.
pub(crate) fn parts() -> EdgeParts {
    let telemetry = Arc::new(Telemetry::new("0", "0").unwrap());
    EdgeParts { service: Fake::new().service(), keys: Arc::new(NoKeys), control: None, telemetry, version: "0" }
}

/// Waits for what happens on another task and can only be looked at.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_elapsed| panic!("never: {what}"));
}
