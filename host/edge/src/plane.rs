//! The control plane below `/v1`: head → who asks → what → body → ask → answer. Of what is asked it knows who may, whose things
//! are meant and which body belongs to it; of JSON only that it is asked for.

use std::net::IpAddr;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, LOCATION};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode};
use sandmill_domain::control::{Answer, Answered, Ask, Asked, Refused};
use sandmill_domain::ports::{Body, Control};
use sandmill_domain::{Caller, Code, Fault, Header, Reply, TenantId};
use sandmill_protocol as protocol;
use tokio::time::Instant;

use crate::archive::{Archive, NoBody};
use crate::control::unknown;
use crate::digest::Promise;
use crate::keys;
use crate::plane_head::{self, COMPONENTS, DEPLOYMENTS, JSON, MODELS};
use crate::plane_log::Line;
use crate::plane_paths::{Act, Found, find};
use crate::routes::hide;
use crate::shared::Shared;
use crate::status;
use crate::upload::{Upload, UploadBounds};

/// The description of all paths, in OpenAPI 3.1.
const DESCRIPTION: &str = include_str!("openapi.json");

/// The largest body that is no archive, in bytes: a key or a tenant's terms take some hundred.
const JSON_BYTES_MAX: usize = 16 << 10;

/// What a host without a control plane says of itself.
const NO_PLANE: &str = "this host serves function folders and has no control plane; a store of functions, `[store] \
    location` in its configuration, brings one";

/// The answer to a request below `/v1`.
///
/// # Errors
/// What was wrong with it; nothing has changed then.
pub(crate) async fn answer(shared: &Shared, from: Option<IpAddr>, head: &Parts, upload: &mut Upload) -> Result<Reply, Refused> {
    let Some(plane) = &shared.control else { return Err(Fault::new(Code::NotFound, NO_PLANE).into()) };
    let mut line = Line::begin(head, from);
    let result = walk(shared, &**plane, head, upload, &mut line).await;
    line.end(result.as_ref().map(|reply| reply.status));
    result
}

async fn walk(
    shared: &Shared,
    plane: &dyn Control,
    head: &Parts,
    upload: &mut Upload,
    line: &mut Line<'_>,
) -> Result<Reply, Refused> {
    let caller = keys::caller(&*shared.keys, &head.headers, line.from())?;
    line.is_asked_by(&caller);
    let found = find(head.uri.path(), unknown)?;
    let answers = found.answers(&head.method)?;
    let given = found.given(answers, head.uri.query(), &head.headers)?;
    let Act::Ask(ask) = answers.act() else { return Ok(described()) };
    let ask = ask(&given)?;
    check(&ask, &caller)?;
    let tenant = tenant(&ask, &caller, &found)?;
    line.is_about(tenant.as_ref());
    if !matches!(ask, Ask::AddTenant(_) | Ask::ChangeTenant(_)) && !is_read(&head.method) {
        plane_head::no_addition(&head.headers)?;
    }
    let revision = plane_head::revision(&head.headers)?;
    let asked = Asked { caller, tenant, revision, ask };
    carry_out(shared, plane, asked, head, upload).await
}

/// Whether the caller may ask that at all, whatever there is.
fn check(ask: &Ask, caller: &Caller) -> Result<(), Fault> {
    ask.scope().map_or(Ok(()), |scope| caller.check(scope))?;
    if ask.is_for_operators() && caller.tenant.is_some() {
        return Err(Fault::new(Code::Forbidden, "this is for an operator's key, and the key is a tenant's"));
    }
    Ok(())
}

/// Whose things are meant.
fn tenant(ask: &Ask, caller: &Caller, found: &Found<'_>) -> Result<Option<TenantId>, Fault> {
    match ask {
        Ask::WhoAmI | Ask::Tenants => Ok(None),
        // Operators have keys and a history of their own.
        Ask::Keys | Ask::AddKey(_) | Ask::RevokeKey(_) | Ask::Audit { .. }
            if caller.tenant.is_none() && found.tenant.is_none() =>
        {
            Ok(None)
        }
        _ => caller.tenant(found.tenant.as_ref()).map(Some).map_err(|fault| hide(fault, unknown)),
    }
}

async fn carry_out(
    shared: &Shared,
    plane: &dyn Control,
    mut asked: Asked,
    head: &Parts,
    upload: &mut Upload,
) -> Result<Reply, Refused> {
    let adds_tenant = matches!(asked.ask, Ask::AddTenant(_));
    let answered = if let Some(taken) = large(&asked.ask) {
        plane_head::media(&head.headers, taken)?;
        let mut archive = Archive::new(shared, upload, Promise::of(&head.headers)?)?;
        plane.ask(asked, &mut archive).await
    } else {
        fill_in(&mut asked.ask, shared, head, upload).await?;
        let nothing: &mut dyn Body = &mut NoBody;
        plane.ask(asked, nothing).await
    }?;
    let status = status::answered(&answered.answer, adds_tenant);
    Ok(told(&answered, status, head.uri.path()))
}

/// What a body may be that is handed on as it comes; none for one that is small, or none.
fn large(ask: &Ask) -> Option<&'static [&'static str]> {
    match ask {
        Ask::Deploy { .. } => Some(DEPLOYMENTS),
        Ask::AddPlugin(_) => Some(COMPONENTS),
        Ask::AddModel { .. } => Some(MODELS),
        _ => None,
    }
}

/// Reads what the body says of what is asked.
async fn fill_in(ask: &mut Ask, shared: &Shared, head: &Parts, upload: &mut Upload) -> Result<(), Fault> {
    match ask {
        Ask::AddKey(key) => *key = protocol::new_key(&json(shared, head, upload).await?)?,
        Ask::AddTenant(terms) | Ask::ChangeTenant(terms) => {
            *terms = protocol::tenant_terms(&json(shared, head, upload).await?)?;
        }
        Ask::RollBack { to, .. } if !upload.has_ended() => {
            let body = json(shared, head, upload).await?;
            *to = if body.is_empty() { None } else { protocol::roll_back(&body)? };
        }
        _ => {}
    }
    Ok(())
}

/// A small body. Its share of the host's buffered bytes is given back when it is there: it is read at once, and forgotten.
async fn json(shared: &Shared, head: &Parts, upload: &mut Upload) -> Result<Bytes, Fault> {
    plane_head::media(&head.headers, JSON)?;
    let promise = Promise::of(&head.headers)?;
    let until = Instant::now() + shared.limits.body_time;
    let bounds = UploadBounds { bytes_max: JSON_BYTES_MAX, bound: "the limit of what is no archive", until };
    let (body, _share) = upload.read(bounds, shared.bodies.share(None)).await?;
    if let Some(mut promise) = promise {
        promise.update(&body);
        promise.keep()?;
    }
    Ok(body)
}

fn told(answered: &Answered, status: StatusCode, path: &str) -> Reply {
    // Some answers have a secret in them, and all of them age.
    let mut headers = vec![etag(answered.revision), (CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    if status == StatusCode::NO_CONTENT {
        return Reply { status, headers, body: Bytes::new() };
    }
    headers.push((CONTENT_TYPE, HeaderValue::from_static("application/json")));
    if let Answer::KeyAdded { key, .. } = &answered.answer
        && let Ok(location) = HeaderValue::from_str(&format!("{path}/{}", key.key))
    {
        headers.push((LOCATION, location));
    }
    Reply { status, headers, body: protocol::answer_body(&answered.answer) }
}

fn described() -> Reply {
    let headers = vec![(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    Reply { status: StatusCode::OK, headers, body: Bytes::from_static(DESCRIPTION.as_bytes()) }
}

fn etag(revision: u64) -> Header {
    let tag = HeaderValue::from_str(&format!("\"{revision}\""));
    (ETAG, tag.expect("invariant: digits between quotes are a header's value"))
}

fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}
