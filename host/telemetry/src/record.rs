//! The record of one request: built at its end, from its result, and told to the metrics and the access log at once.

use std::time::Duration;

use sandmill_domain::ports::Stages;
use sandmill_domain::{Blame, Fault, ReleaseNumber};

use crate::metrics::Telemetry;
use crate::requests::Visit;

/// What became of one request.
pub struct Record<'a> {
    /// The function that it reached, even if it was refused there; none for a request that reached no function.
    pub function: Option<&'a Visit>,
    /// The release that admitted it.
    pub release: Option<ReleaseNumber>,
    /// How it was called: `function`, `oip`, or `other` for what is no invocation.
    pub form: &'static str,
    /// The HTTP method.
    pub method: &'a str,
    /// The path as it came, its first KiB; goes to the log alone.
    pub path: &'a str,
    /// The HTTP status; none if the client went away before there was one.
    pub status: Option<u16>,
    /// What went wrong.
    pub fault: Option<&'a Fault>,
    /// From the request's head to the whole answer.
    pub duration: Duration,
    /// Bytes of the request's body that were read.
    pub received: u64,
    /// Bytes of the response's body.
    pub sent: u64,
    /// How long the stages took.
    pub stages: Stages,
}

impl Telemetry {
    /// Counts the request and writes its line. Called once per request, at its end.
    pub fn record(&self, record: &Record<'_>) {
        self.count(record);
        record.log();
    }
}

impl Record<'_> {
    /// One line: at `warn` if we or a tenant's code failed, at `info` otherwise.
    fn log(&self) {
        // Made only for a line that is wanted.
        let status = || self.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
        let micros =
            |duration: Option<Duration>| duration.map(|duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
        // As a text, which is quoted: a display would stand bare among the fields, and might look like more of them.
        let error = self.fault.map(|fault| fault.report().to_string());
        let error = error.as_deref();
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    target: "access",
                    tenant = self.function.map(|visit| visit.tenant().as_str()),
                    function = self.function.map(|visit| visit.function().as_str()),
                    release = self.release.map(|release| release.0.get()),
                    form = self.form,
                    method = self.method,
                    path = self.path,
                    status = status().as_str(),
                    code = self.fault.map(|fault| fault.code.name()),
                    blame = self.fault.map(|fault| fault.blame.name()),
                    error,
                    duration_us = micros(Some(self.duration)),
                    turn_wait_us = micros(self.stages.turns),
                    preprocess_us = micros(self.stages.preprocess),
                    queue_us = micros(self.stages.queue),
                    inference_us = micros(self.stages.inference),
                    postprocess_us = micros(self.stages.postprocess),
                    handle_us = micros(self.stages.handle),
                    plugin_us = micros(self.stages.plugin.map(|plugin| plugin.running)),
                    received_bytes = self.received,
                    sent_bytes = self.sent,
                )
            };
        }
        match self.fault {
            Some(fault) if fault.blame != Blame::Caller => line!(warn),
            _ => line!(info),
        }
    }
}

#[cfg(test)]
mod tests {
    use sandmill_domain::Code;
    use sandmill_domain::ports::PluginUsage;

    use super::*;

    #[test]
    fn a_record_is_counted_under_bounded_labels() {
        let telemetry = Telemetry::new("0", "0").expect("the page is consistent");
        let fault = Fault::new(Code::NotFound, "no function `made-up`");
        telemetry.record(&Record {
            function: None,
            release: None,
            form: "function",
            method: "POST",
            path: "/fn/made-up",
            status: Some(404),
            fault: Some(&fault),
            duration: Duration::from_millis(1),
            received: 3,
            sent: 5,
            stages: Stages {
                handle: Some(Duration::from_millis(1)),
                plugin: Some(PluginUsage { memory_bytes: 65_536, inferences: 3, ..PluginUsage::default() }),
                ..Stages::default()
            },
        });
        let text = String::from_utf8(telemetry.render(None).expect("renders")).expect("text");
        assert!(text.contains(r#"sandmill_requests_total{form="function",function="-",status="404",tenant="-"} 1"#), "{text}");
        assert!(text.contains(r#"sandmill_faults_total{blame="caller",code="not_found",function="-",tenant="-"} 1"#), "{text}");
        assert!(text.contains(r#"sandmill_plugin_memory_bytes_bucket{function="-",tenant="-",le="65536"} 1"#), "{text}");
        assert!(text.contains(r#"sandmill_plugin_inferences_total{function="-",tenant="-"} 3"#), "{text}");
        assert!(!text.contains("made-up"), "{text}");
    }
}
