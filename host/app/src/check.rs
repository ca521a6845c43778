//! `sandmill check`: makes a function's release as `serve` would, serves nothing, and says what it is.

use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use sandmill_catalog::FunctionSpec;
use sandmill_domain::ports::Model as _;
use sandmill_domain::{ModelProfile, ReleaseNumber, TenantId};
use sandmill_engine::{LoadTimes, Placement};
use sandmill_pipeline::Account;
use sandmill_sandbox::{Loaded, Snapshot};

use crate::cli::CheckOptions;
use crate::config::Config;
use crate::deploy::{Deployed, Measured, Place};
use crate::report::say;
use crate::serve::{read_functions, start_deployer};

/// Checks every function of the folder; the first that cannot be made is the failure.
pub(crate) fn run(options: &CheckOptions, json: bool) -> Result<()> {
    let config = Config::read(options.config.as_deref())?;
    let _logs = sandmill_telemetry::start_logs("warn", config.log.format.into())?;
    let specs = read_functions(&[PathBuf::from(&options.dir)], &config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let deployer = start_deployer(&config, runtime.handle().clone())?;
    let mut good = Vec::new();
    for spec in &specs {
        let account = Account::new(config.tenant_limits());
        let (tenant, number, journal) = (TenantId::local(), ReleaseNumber::FIRST, Arc::default());
        let (keep_in, beside) = (None, Vec::new());
        let place = Place { tenant, number, known: false, account, journal, keep_in, beside };
        let deployed = deployer.deploy(spec, &place)?;
        let text = describe(spec, &deployed);
        if json {
            let lines: Vec<_> = text.lines().skip(1).map(str::trim).collect();
            good.push(serde_json::json!({ "function": spec.name, "description": lines }));
        } else {
            say(&text);
        }
    }
    if json {
        crate::report::json(serde_json::json!({ "functions": good }).to_string().as_bytes());
    }
    Ok(())
}

fn describe(spec: &FunctionSpec, deployed: &Deployed) -> String {
    let mut text = format!("function `{}` is good", spec.name);
    let mut line = |args: std::fmt::Arguments<'_>| {
        let _infallible = write!(text, "\n  {args}");
    };
    for (loaded, Measured { name, times, placement, profile, .. }) in deployed.models.iter().zip(&deployed.measured) {
        let LoadTimes { load, warm_up, run } = times;
        line(format_args!("{name}: loaded in {load:.1?}, warm in {warm_up:.1?}, then {run:.1?} a run"));
        line(format_args!("  provider: {}", describe_placement(placement)));
        describe_profile(profile).iter().for_each(|text| line(format_args!("  {text}")));
        let signature = &loaded.model.info().signature;
        signature.inputs.iter().for_each(|spec| line(format_args!("  takes {spec}")));
        signature.outputs.iter().for_each(|spec| line(format_args!("  gives {spec}")));
    }
    for (file, load) in &deployed.loads {
        let name = file.file_name().unwrap_or(file.as_os_str()).display();
        line(format_args!("{name}: {}", describe_load(load)));
    }
    let plugins = deployed.release.plugins();
    if plugins.handler.is_some() {
        line(format_args!("requests: handled whole by the plugin"));
    } else {
        for (side, plugin) in [("preprocess", &plugins.pre), ("postprocess", &plugins.post)] {
            let by = match (plugin, deployed.release.model()) {
                (Some(_), _) => "by the plugin",
                (None, Some(_)) => "by the Open Inference Protocol",
                (None, None) => "none, the plugin answers at once",
            };
            line(format_args!("{side}: {by}"));
        }
    }
    match &deployed.sample {
        Some(sample) => line(format_args!("sample: {} with {} bytes after {:.1?}", sample.status, sample.bytes, sample.took)),
        None => line(format_args!("sample: none; with a [sample] the whole path is checked before it serves")),
    }
    text
}

/// Who runs a model, and who should but does not.
fn describe_placement(placement: &Placement) -> String {
    let Placement { provider, fell_back, shares, nodes } = placement;
    let shares: Vec<String> = shares.iter().map(|(name, nodes)| format!("{nodes} nodes on {name}")).collect();
    let mut text = if shares.is_empty() { provider.clone() } else { format!("{provider}; {}", shares.join(", ")) };
    if !nodes.is_empty() {
        text.push_str("; for debugging, as they are in the file");
    }
    if let Some(reason) = fell_back {
        text.push_str("; it fell back: ");
        text.push_str(reason);
    }
    text
}

/// What runs take, and how requests share them.
fn describe_profile(profile: &ModelProfile) -> Vec<String> {
    let times: Vec<String> = profile.sizes.iter().map(|size| format!("{:.1?} for {}", size.time, size.rows)).collect();
    let batches = match &profile.batches {
        Ok(rows) => format!("batches: up to {rows} rows of several requests together"),
        Err(why) => format!("batches: none; {why}"),
    };
    let place = match &profile.inline {
        Ok(bytes) => format!("runs: on the thread that has the request, up to {bytes} bytes of inputs"),
        Err(why) => format!("runs: on threads of the model's own; {why}"),
    };
    let padding = match &profile.padding {
        Ok(axes) if axes.is_empty() => None,
        Ok(axes) => {
            let axis = |(name, buckets): &(String, Vec<i64>)| format!("`{name}` to one of {buckets:?}");
            Some(format!("padding: {}", axes.iter().map(axis).collect::<Vec<_>>().join(", ")))
        }
        Err(why) => Some(format!("padding: none; {why}")),
    };
    [format!("rows: {}", times.join(", ")), batches, place].into_iter().chain(padding).collect()
}

/// How long a plugin took, and whether its requests start as quickly as they can.
fn describe_load(load: &Loaded) -> String {
    let compiled = format!("compiled in {:.1?}{}", load.made.compile_time, if load.cached { ", now from the cache" } else { "" });
    match &load.made.snapshot {
        Snapshot::Taken { time } => format!("{compiled}; every request starts from the memory that its init left in {time:.1?}"),
        Snapshot::NoInit => {
            format!(
                "{compiled}; it exports no `init`, so no snapshot is taken: what it does to start, and growing its memory, it \
                 does in every request, which is slower"
            )
        }
        Snapshot::Impossible(reason) => {
            format!("{compiled}; every request runs its `init` anew, which is slower, because no snapshot can be taken: {reason}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fallback_is_told() {
        let cpu = Placement { provider: "cpu".to_owned(), ..Placement::default() };
        assert_eq!(describe_placement(&cpu), "cpu");
        let shares = [("cpu".to_owned(), 2), ("cuda".to_owned(), 40)].into();
        let fell_back = Some("`tensorrt`: it is not there".to_owned());
        let cuda = Placement { provider: "cuda".to_owned(), fell_back, shares, ..Placement::default() };
        let expected = "cuda; 2 nodes on cpu, 40 nodes on cuda; it fell back: `tensorrt`: it is not there";
        assert_eq!(describe_placement(&cuda), expected);
    }
}
