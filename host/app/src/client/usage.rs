//! `sandmill usage`.

use std::time::UNIX_EPOCH;

use anyhow::Result;
use sandmill_domain::control::HourUsage;
use sandmill_domain::{FunctionName, Usage};
use serde::Deserialize;

use super::ask::{Plane, block_on};
use super::words::{bytes, moment, table, time};
use crate::cli::UsageOptions;

#[derive(Deserialize)]
struct Hours {
    hours: Vec<HourUsage>,
}

/// `sandmill usage`
pub(crate) fn run(options: &UsageOptions, json: bool) -> Result<()> {
    let plane = Plane::open(&options.remote, json)?;
    let now_ms = UNIX_EPOCH.elapsed().map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
    let from_ms = now_ms.saturating_sub(options.last.saturating_mul(1000));
    let told = block_on(plane.get(&plane.path(&format!("usage?from_ms={from_ms}&to_ms={now_ms}"))))?;
    plane.show(&told, |told: Hours| {
        let rows: Vec<_> = told.hours.iter().flat_map(rows).collect();
        if rows.is_empty() {
            return "nothing was used in that time".to_owned();
        }
        table(["hour", "function", "requests", "plugins", "models", "received", "sent", "cold starts"], &rows)
    })
}

fn rows(hour: &HourUsage) -> impl Iterator<Item = [String; 8]> {
    let row = |(function, used): (&FunctionName, &Usage)| {
        let ms = |us: u64| time(us as f64 / 1000.0);
        [
            moment(hour.from_ms),
            function.to_string(),
            used.requests.to_string(),
            ms(used.plugin_us),
            ms(used.model_us),
            bytes(used.received_bytes),
            bytes(used.sent_bytes),
            used.cold_starts.to_string(),
        ]
    };
    hour.functions.iter().map(row)
}
