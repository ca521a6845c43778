//! What is measured and written down: the metrics' page, the record of one request, the log.
//!
//! It is told what happened and asks nobody; it knows neither HTTP libraries nor runtimes.

mod family;
mod logs;
mod metrics;
mod models;
mod record;
mod requests;

pub use logs::{LogError, LogFormat, Logs, start_logs};
pub use metrics::{BreakerMetrics, InFlight, MetricsError, PluginLoad, Telemetry};
pub use models::ModelMetrics;
pub use record::Record;
pub use requests::Visit;
