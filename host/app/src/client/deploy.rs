//! `sandmill deploy`: read, pack, ask what is there, say what will change, send, say what came of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, anyhow};
use hyper::header::HeaderValue;
use sandmill_catalog::{FileLimits, FunctionSpec, Uploads, is_upload};
use sandmill_domain::FunctionName;
use sandmill_domain::control::{Deployment, FunctionDetail, ModelDetail, ReleaseDetail};
use serde_json::json;

use super::ask::{Plane, block_on};
use super::changes::{Change, describe};
use super::terminal::confirm;
use super::upload::{Parcel, send};
use super::words::{bytes, time};
use super::{Access, Refusal};
use crate::cli::DeployOptions;
use crate::control::changed_lines;
use crate::invoke::guess_content_type;
use crate::report::{say, told};

/// Models are compiled, tried and measured meanwhile.
const TIME: Duration = Duration::from_secs(1800);

/// What is known of the folder once it is packed: its contents may be large, and are let go.
struct Folder {
    name: FunctionName,
    manifest: String,
    files: BTreeMap<String, (String, u64)>,
    sample: Option<std::path::PathBuf>,
}

/// `sandmill deploy`
pub(crate) fn run(options: &DeployOptions, json: bool) -> Result<()> {
    let plane = Plane::open(&options.remote, json)?.patient(&options.remote, TIME);
    let (folder, parcel) = read(&options.dir)?;
    let path = plane.path(&format!("functions/{}", folder.name));
    block_on(async {
        let (present, revision) = present(&plane, &path).await?;
        let changes = changes(&folder, present.as_ref());
        if let (true, Some(present)) = (changes.is_empty(), &present) {
            let release = present.release;
            told(json, &json!({ "function": folder.name, "release": release, "unchanged": true }), || {
                format!("nothing to deploy: release {release} of `{}` is the same", folder.name)
            });
            return Ok(());
        }
        if !json {
            say(&headline(&folder.name, present.as_ref(), parcel.bytes));
            changes.iter().for_each(|line| say(line));
        }
        if !options.dry_run {
            confirm("deploy it?", options.yes)?;
        }
        let path = if options.dry_run { format!("{path}?dry_run=true") } else { path.clone() };
        let deployed = send(&plane, &path, "application/gzip", revision, parcel).await?;
        plane.show(&deployed, |deployment: Deployment| in_words(&deployment, &folder, &plane.access))
    })
}

/// Reads the folder as the server will, packs it, and forgets what the files hold.
fn read(dir: &Path) -> Result<(Folder, Parcel)> {
    // The server's environment is none of ours, and what was uploaded to it is there.
    let limits = FileLimits { environment: false, uploads: Uploads::Unread, ..FileLimits::default() };
    let spec = sandmill_catalog::read_function(dir, &limits).map_err(|error| anyhow!("{error}"))?;
    let parcel = Parcel::pack(&spec)?;
    let FunctionSpec { name, manifest, files, sample, .. } = spec;
    let files = files.into_iter().map(|(path, file)| (path, (file.sha256.to_string(), file.len))).collect();
    Ok((Folder { name, manifest: manifest.0, files, sample: sample.and_then(|sample| sample.file) }, parcel))
}

/// What the server has, and the state that it is in. Of a function that is not there yet the tenant's state is the one to rest on.
async fn present(plane: &Plane, path: &str) -> Result<(Option<FunctionDetail>, Option<HeaderValue>)> {
    match plane.get(path).await {
        Ok(told) => Ok((Some(told.read()?), told.revision)),
        Err(error) if error.downcast_ref().is_some_and(Refusal::is_missing) => {
            Ok((None, plane.get(&plane.path("functions")).await?.revision))
        }
        Err(error) => Err(error),
    }
}

fn changes(folder: &Folder, present: Option<&FunctionDetail>) -> Vec<String> {
    let current = present.and_then(|present| present.releases.iter().find(|release| release.release == present.release));
    let nothing = BTreeMap::new();
    let (manifest, files) = current.map_or(("", &nothing), |release: &ReleaseDetail| (&release.manifest, &release.files));
    // A new function's manifest is all new: nobody wants to read that.
    let manifest = if current.is_some() { changed_lines(manifest, &folder.manifest) } else { Vec::new() };
    let mut changed = BTreeMap::new();
    for (path, (sha256, len)) in &folder.files {
        let before = files.get(path);
        if before.is_none_or(|before| before.sha256 != *sha256) {
            changed.insert(path.clone(), Change { before: before.map(|file| file.bytes), after: Some(*len) });
        }
    }
    // Of what `from` names the manifest tells.
    let sent = files.iter().filter(|(path, _)| !is_upload(path));
    for (path, before) in sent.filter(|(path, _)| !folder.files.contains_key(*path)) {
        changed.insert(path.clone(), Change { before: Some(before.bytes), after: None });
    }
    let lines = describe(&manifest, &changed);
    // Line ends, which no line shows.
    let differs = current.is_none_or(|release| release.manifest != folder.manifest);
    if lines.is_empty() && differs { vec!["  function.toml".to_owned()] } else { lines }
}

fn headline(name: &FunctionName, present: Option<&FunctionDetail>, archive: u64) -> String {
    let size = bytes(archive);
    match present {
        Some(present) => format!("`{name}`, after release {} ({size} packed):", present.release),
        None => format!("`{name}`, a new function ({size} packed):"),
    }
}

fn in_words(deployment: &Deployment, folder: &Folder, access: &Access) -> String {
    let steps = deployment.steps.iter().map(|step| format!("  {:<9}{}", step.step.as_str(), time(step.ms)));
    let models = deployment.models.iter().map(|model| format!("  {}", model_in_words(model)));
    let sample = deployment.sample.map(|status| format!("  its sample was answered with {status}"));
    let name = &deployment.function;
    let end = match (deployment.dry_run, deployment.previous) {
        (true, _) => format!("a dry run: nothing was released, and release {} could be", deployment.release),
        (false, Some(previous)) if previous != deployment.release => {
            format!("release {} of `{name}` answers, and release {previous} no more", deployment.release)
        }
        _ => format!("release {} of `{name}` answers", deployment.release),
    };
    let hint = (!deployment.dry_run).then(|| try_it(name, folder, access));
    steps.chain(models).chain(sample).chain([end]).chain(hint).collect::<Vec<_>>().join("\n")
}

fn model_in_words(model: &ModelDetail) -> String {
    let batches = match &model.why_no_batches {
        None => format!("up to {} rows run together", model.batch_rows_max),
        Some(why) => format!("calls share no runs: {why}"),
    };
    let again = if model.kept { " as before" } else { "" };
    format!("{} runs on {}{again}; {batches}", model.model, model.provider)
}

/// A line for another terminal: with the name of the variable where a key is, and never with a key.
fn try_it(name: &FunctionName, folder: &Folder, access: &Access) -> String {
    let tenant = access.tenant.as_ref().map(|tenant| format!("/tenants/{tenant}")).unwrap_or_default();
    let key = if access.key.is_some() { "-H \"Authorization: Bearer $SANDMILL_KEY\" " } else { "" };
    let data = folder.sample.as_ref().map(|file| {
        let here = std::env::current_dir().unwrap_or_default();
        let shown = file.strip_prefix(here).unwrap_or(file).display();
        format!("-H 'Content-Type: {}' --data-binary @{shown} ", guess_content_type(file))
    });
    format!("try: curl {key}{}{}{tenant}/fn/{name}", data.unwrap_or_default(), access.functions)
}
