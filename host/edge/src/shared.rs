//! What every connection of one server shares.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::StatusCode;
use sandmill_domain::ports::{Control, Keys, Service, Stages};
use sandmill_domain::{Bodies, Fault};
use sandmill_telemetry::{Record, Telemetry};

use crate::options::EdgeLimits;
use crate::serve::EdgeParts;

/// The server, as a connection sees it.
pub(crate) struct Shared {
    pub(crate) service: Arc<dyn Service>,
    pub(crate) keys: Arc<dyn Keys>,
    /// None on a host that serves folders.
    pub(crate) control: Option<Arc<dyn Control>>,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) version: &'static str,
    pub(crate) limits: EdgeLimits,
    pub(crate) bodies: Arc<Bodies>,
    draining: AtomicBool,
}

impl Shared {
    pub(crate) fn new(parts: EdgeParts, limits: EdgeLimits) -> Self {
        let EdgeParts { service, keys, control, telemetry, version } = parts;
        let bodies = Bodies::of_host(limits.buffered_bytes_max);
        Self { service, keys, control, telemetry, version, limits, bodies, draining: AtomicBool::new(false) }
    }

    /// Why no requests should be sent here; none if they should.
    pub(crate) fn unready(&self) -> Option<String> {
        let draining = self.draining.load(Ordering::Relaxed).then(|| "it drains".to_owned());
        draining.or_else(|| self.service.unready())
    }

    /// From now on the server is not ready.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Records what was refused with `status` before it was a request.
    pub(crate) fn record_refusal(&self, fault: &Fault, status: StatusCode) {
        self.telemetry.record(&Record {
            function: None,
            release: None,
            form: "other",
            method: "-",
            path: "-",
            status: Some(status.as_u16()),
            fault: Some(fault),
            duration: Duration::ZERO,
            received: 0,
            sent: 0,
            stages: Stages::default(),
        });
    }
}
