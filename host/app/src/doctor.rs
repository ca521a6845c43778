//! `sandmill doctor`: what is wrong with a store, in plain words.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use sandmill_catalog::store::{LogReport, Owner, Report, StoreError, Trouble, doctor};
use serde_json::{Value, json};

use crate::cli::DoctorOptions;
use crate::client::bytes_in_words;
use crate::control::open_store;
use crate::report::told;
use crate::store_location;

/// `sandmill doctor`
pub(crate) fn run(options: &DoctorOptions, json: bool) -> Result<ExitCode> {
    let location = store_location::find(options.store.as_deref())?;
    if store_location::is_missing(&location) {
        bail!("there is no store at {location}: name one with --store, or make one with `sandmill init`");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(async {
        let store = open_store(&location).await?;
        doctor(&store).await.context("the store cannot be read")
    })?;
    let object = json!({
        "store": location,
        "clean": report.is_clean(),
        "logs": report.logs.iter().map(object).collect::<Vec<_>>(),
    });
    told(json, &object, || in_words(&location, &report));
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn object(log: &LogReport) -> Value {
    json!({
        "log": owner(&log.owner),
        "revision": log.revision.0,
        "checkpoints": log.checkpoints,
        "uploads": log.blobs,
        "upload_bytes": log.blob_bytes,
        "troubles": log.troubles.iter().map(trouble).collect::<Vec<_>>(),
        "orphans": log.orphans.iter().map(|orphan| json!({ "object": orphan.object, "bytes": orphan.bytes })).collect::<Vec<_>>(),
    })
}

fn in_words(location: &str, report: &Report) -> String {
    let mut lines = Vec::new();
    for log in &report.logs {
        let LogReport { revision, checkpoints, blobs, blob_bytes, .. } = log;
        let size = bytes_in_words(*blob_bytes);
        let state = if log.troubles.is_empty() { "good" } else { "NOT GOOD" };
        lines.push(format!(
            "{}: {state}; {} records, {checkpoints} checkpoints, {blobs} uploads with {size}",
            owner(&log.owner),
            revision.0
        ));
        lines.extend(log.troubles.iter().map(|found| format!("  {}", trouble(found))));
        if !log.orphans.is_empty() {
            let size = bytes_in_words(log.orphans.iter().map(|orphan| orphan.bytes).sum());
            lines.push(format!(
                "  {} objects that nothing names take {size}; a host that serves the store deletes them",
                log.orphans.len()
            ));
        }
    }
    let troubles: usize = report.logs.iter().map(|log| log.troubles.len()).sum();
    lines.push(match troubles {
        0 => format!("nothing is wrong with the store at {location}"),
        count => format!("{count} things are wrong with the store at {location}: restore it from a backup"),
    });
    lines.join("\n")
}

fn owner(owner: &Owner) -> String {
    match owner {
        Owner::System => "the host's own log".to_owned(),
        Owner::Tenant(tenant) => format!("tenant `{tenant}`"),
    }
}

fn trouble(trouble: &Trouble) -> String {
    let told = |what: &str, error: &StoreError| format!("{what}: {error}");
    match trouble {
        Trouble::Record(error) => told("a record cannot be read, and what comes after it was not looked at", error),
        Trouble::Checkpoint(error) => told("a checkpoint cannot be read; the log can be without it", error),
        Trouble::Differs { revision } => format!("the checkpoint at revision {} says other things than the records", revision.0),
        Trouble::Blob(blob, error) => told(&format!("an upload is missing or damaged, SHA-256 {}", blob.sha256), error),
    }
}
