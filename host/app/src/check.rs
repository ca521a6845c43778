//! `sandmill check`: makes a function's release as `serve` would, serves nothing, and says what it is.

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::Result;
use sandmill_catalog::FunctionSpec;

use crate::cli::CheckOptions;
use crate::config::Config;
use crate::deploy::Deployed;
use crate::report::say;
use crate::serve::{read_functions, start_deployer};

/// Checks every function of the folder; the first that cannot be made is the failure.
pub(crate) fn run(options: &CheckOptions) -> Result<()> {
    let config = Config::read(options.config.as_deref())?;
    let _logs = sandmill_telemetry::start_logs("warn", config.log.format.into())?;
    let specs = read_functions(&[PathBuf::from(&options.dir)], &config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let deployer = start_deployer(&config, runtime.handle().clone())?;
    for spec in &specs {
        let deployed = deployer.deploy(spec)?;
        say(&describe(spec, &deployed));
    }
    Ok(())
}

fn describe(spec: &FunctionSpec, deployed: &Deployed) -> String {
    let mut text = format!("function `{}` is good", spec.name);
    let mut line = |args: std::fmt::Arguments<'_>| {
        let _infallible = write!(text, "\n  {args}");
    };
    if let (Some(model), Some(times)) = (deployed.release.model(), &deployed.times) {
        line(format_args!("model: loaded in {:.1?}, warm in {:.1?}, then {:.1?} a run", times.load, times.warm_up, times.run));
        let signature = &model.info().signature;
        signature.inputs.iter().for_each(|spec| line(format_args!("  takes {spec}")));
        signature.outputs.iter().for_each(|spec| line(format_args!("  gives {spec}")));
    }
    for (side, plugin) in [("preprocess", &deployed.release.plugins().pre), ("postprocess", &deployed.release.plugins().post)] {
        let by = match (plugin, deployed.release.model()) {
            (Some(_), _) => "by the plugin",
            (None, Some(_)) => "by the Open Inference Protocol",
            (None, None) => "none, the plugin answers at once",
        };
        line(format_args!("{side}: {by}"));
    }
    match &deployed.sample {
        Some(sample) => line(format_args!("sample: {} with {} bytes after {:.1?}", sample.status, sample.bytes, sample.took)),
        None => line(format_args!("sample: none; with a [sample] the whole path is checked before it serves")),
    }
    text
}
