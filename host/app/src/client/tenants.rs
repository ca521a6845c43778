//! `sandmill tenants`.

use anyhow::Result;
use hyper::Method;
use hyper::header::{HeaderValue, IF_NONE_MATCH};
use sandmill_domain::TenantId;
use sandmill_domain::control::{Quotas, TenantDetail, TenantTerms};
use serde::Deserialize;

use super::ask::{Plane, block_on};
use super::terminal::confirm;
use super::words::{counted, table};
use crate::cli::{RemoteOptions, TenantsCommand, TenantsOptions, TermArguments};

#[derive(Deserialize)]
struct Tenants {
    tenants: Vec<TenantDetail>,
}

/// `sandmill tenants`
pub(crate) fn run(options: &TenantsOptions, json: bool) -> Result<()> {
    match &options.command {
        TenantsCommand::List { remote } => list(remote, json),
        TenantsCommand::Add(arguments) => put(arguments, true, json),
        TenantsCommand::Set(arguments) => put(arguments, false, json),
        TenantsCommand::Remove { name, yes, remote } => remove(name, *yes, remote, json),
    }
}

fn list(remote: &RemoteOptions, json: bool) -> Result<()> {
    let plane = Plane::open(remote, json)?;
    let told = block_on(plane.get("/v1/tenants"))?;
    plane.show(&told, |list: Tenants| {
        let row = |tenant: &TenantDetail| {
            let TenantTerms { weight, quotas } = tenant.terms;
            [tenant.tenant.to_string(), weight.to_string(), tenant.functions.to_string(), in_words(&quotas)]
        };
        table(["tenant", "weight", "functions", "quotas"], &list.tenants.iter().map(row).collect::<Vec<_>>())
    })
}

fn put(arguments: &TermArguments, is_new: bool, json: bool) -> Result<()> {
    let plane = Plane::open(&arguments.remote, json)?;
    let mut terms = TenantTerms { weight: arguments.weight, quotas: Quotas::default() };
    arguments.quotas.iter().for_each(|quota| quota.set(&mut terms.quotas));
    let condition = is_new.then(|| (IF_NONE_MATCH, HeaderValue::from_static("*")));
    let path = format!("/v1/tenants/{}", arguments.name);
    let told = block_on(plane.tell(Method::PUT, &path, condition, &terms))?;
    plane.show(&told, |tenant: TenantDetail| {
        let TenantTerms { weight, quotas } = tenant.terms;
        let functions = counted(tenant.functions, "function");
        format!("tenant `{}`: weight {weight}, {functions}, quotas: {}", tenant.tenant, in_words(&quotas))
    })
}

fn remove(name: &TenantId, yes: bool, remote: &RemoteOptions, json: bool) -> Result<()> {
    let plane = Plane::open(remote, json)?;
    confirm(&format!("remove tenant `{name}` with its functions and keys? its name is never given again"), yes)?;
    block_on(plane.ask(Method::DELETE, &format!("/v1/tenants/{name}")))?;
    plane.show_done(&format!("tenant `{name}` is removed"));
    Ok(())
}

fn in_words(quotas: &Quotas) -> String {
    let value = serde_json::to_value(quotas).unwrap_or_default();
    let set: Vec<_> = value.as_object().into_iter().flatten().map(|(name, max)| format!("{name}={max}")).collect();
    if set.is_empty() { "the server's defaults".to_owned() } else { set.join(" ") }
}
