//! `sandmill functions`, `delete` and `whoami`.

use anyhow::Result;
use hyper::Method;
use sandmill_domain::Scope;
use sandmill_domain::control::{FunctionSummary, Identity};
use serde::Deserialize;

use super::ask::{Plane, block_on};
use super::terminal::confirm;
use super::words::{moment, table};
use crate::cli::{DeleteOptions, FunctionsOptions, WhoAmIOptions};

#[derive(Deserialize)]
struct Functions {
    functions: Vec<FunctionSummary>,
}

/// `sandmill functions`
pub(crate) fn functions(options: &FunctionsOptions, json: bool) -> Result<()> {
    let plane = Plane::open(&options.remote, json)?;
    let told = block_on(plane.get(&plane.path("functions")))?;
    plane.show(&told, |list: Functions| {
        if list.functions.is_empty() {
            return "no functions yet; `sandmill deploy DIR` adds them".to_owned();
        }
        let row = |function: &FunctionSummary| {
            let state = if function.serving { "answers" } else { "does not answer yet, or cannot: see `releases`" };
            [function.function.to_string(), function.release.to_string(), moment(function.released_at_ms), state.to_owned()]
        };
        table(["function", "release", "released", "here"], &list.functions.iter().map(row).collect::<Vec<_>>())
    })
}

/// `sandmill delete`
pub(crate) fn delete(options: &DeleteOptions, json: bool) -> Result<()> {
    let plane = Plane::open(&options.remote, json)?;
    let path = plane.path(&format!("functions/{}", options.function));
    confirm(&format!("delete `{}` with all its releases?", options.function), options.yes)?;
    block_on(plane.ask(Method::DELETE, &path))?;
    plane.show_done(&format!("`{}` is deleted", options.function));
    Ok(())
}

/// `sandmill whoami`
pub(crate) fn whoami(options: &WhoAmIOptions, json: bool) -> Result<()> {
    let plane = Plane::open(&options.remote, json)?;
    let told = block_on(plane.get("/v1/whoami"))?;
    plane.show(&told, |identity: Identity| {
        let whose = identity.tenant.map_or_else(|| "an operator's".to_owned(), |tenant| format!("of tenant `{tenant}`"));
        format!("key {}, {whose}: {}, on {}", identity.key, scopes(&identity.scopes), plane.access.control)
    })
}

/// `deploy, invoke`
pub(super) fn scopes(scopes: &[Scope]) -> String {
    scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(", ")
}
