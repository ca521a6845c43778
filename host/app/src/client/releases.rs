//! `sandmill releases`, `rollback` and `difference`.

use anyhow::Result;
use hyper::Method;
use sandmill_domain::control::{Deployment, Difference, FunctionDetail, ReleaseDetail};
use serde_json::json;

use super::ask::{Plane, block_on};
use super::changes::{Change, describe};
use super::terminal::confirm;
use super::words::{bytes, moment, table};
use crate::cli::{DifferenceOptions, ReleasesOptions, RollBackOptions};

/// `sandmill releases`
pub(crate) fn releases(options: &ReleasesOptions, json: bool) -> Result<()> {
    let plane = Plane::open(&options.remote, json)?;
    let told = block_on(plane.get(&plane.path(&format!("functions/{}", options.function))))?;
    plane.show(&told, |detail: FunctionDetail| {
        let current = detail.release;
        let row = |release: &ReleaseDetail| {
            let state = match (release.release == current, release.loaded) {
                (true, true) => "answers",
                (true, false) => "should answer",
                (false, true) => "loaded",
                (false, false) => "",
            };
            let size = release.files.values().map(|file| file.bytes).sum();
            [release.release.to_string(), moment(release.released_at_ms), release.by.clone(), bytes(size), state.to_owned()]
        };
        let rows: Vec<_> = detail.releases.iter().map(row).collect();
        let table = table(["release", "released", "by", "files", "here"], &rows);
        match detail.trouble {
            Some(why) => format!("{table}\nrelease {current} cannot be served here: {why}"),
            None => table,
        }
    })
}

/// `sandmill rollback`
pub(crate) fn roll_back(options: &RollBackOptions, json: bool) -> Result<()> {
    let plane = Plane::open(&options.remote, json)?;
    let path = plane.path(&format!("functions/{}", options.function));
    let told = block_on(async {
        let before = plane.get(&path).await?;
        let detail: FunctionDetail = before.read()?;
        let to = options.to.map(|to| format!("release {to}")).unwrap_or_else(|| "the release that answered last".to_owned());
        confirm(&format!("take `{}` back from release {} to {to}?", options.function, detail.release), options.yes)?;
        let body = options.to.map_or_else(|| json!({}), |to| json!({ "to": to }));
        let header = before.revision.map(|revision| (hyper::header::IF_MATCH, revision));
        plane.tell(Method::POST, &format!("{path}/rollback"), header, &body).await
    })?;
    plane.show(&told, |done: Deployment| {
        let before = done.previous.map(|previous| format!(", and release {previous} no more")).unwrap_or_default();
        format!("release {} of `{}` answers again{before}", done.release, done.function)
    })
}

/// `sandmill difference`
pub(crate) fn difference(options: &DifferenceOptions, json: bool) -> Result<()> {
    let plane = Plane::open(&options.remote, json)?;
    let DifferenceOptions { function, from, to, .. } = options;
    let path = plane.path(&format!("functions/{function}/difference?from={from}&to={to}"));
    let told = block_on(plane.get(&path))?;
    plane.show(&told, |found: Difference| {
        let size = |file: Option<sandmill_domain::control::FileDetail>| file.map(|file| file.bytes);
        let files = found
            .files
            .into_iter()
            .map(|(path, change)| (path, Change { before: size(change.before), after: size(change.after) }));
        let lines = describe(&found.manifest, &files.collect());
        if lines.is_empty() { format!("releases {from} and {to} of `{function}` are the same") } else { lines.join("\n") }
    })
}
