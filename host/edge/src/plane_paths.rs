//! The paths below `/v1`: which there are, what each answers, and what is asked by it. A table, without a look at who asks.

use std::num::NonZeroU64;

use http::{HeaderMap, Method};
use sandmill_domain::control::{Ask, NewKey, TenantTerms};
use sandmill_domain::{Code, Fault, FunctionName, ReleaseNumber, TenantId};

use crate::plane_head;
use crate::routes::{function, wrong_method};

/// The longest id of a key that is looked up, in bytes.
const KEY_BYTES_MAX: usize = 128;

/// One path: its parts behind `/v1`, the variable one in braces.
pub(crate) struct Place {
    parts: &'static [&'static str],
    /// Whether it is there behind `/v1/tenants/{tenant}` as well.
    is_of_tenants: bool,
    answers: &'static [Answers],
}

/// What a path answers.
pub(crate) struct Answers {
    method: &'static str,
    /// The parameters that it knows.
    query: &'static [&'static str],
    act: Act,
}

/// What is to be done.
#[derive(Clone, Copy)]
pub(crate) enum Act {
    /// Show the description of all this.
    Describe,
    /// Ask; what comes in the body is still to be filled in.
    Ask(fn(&Given<'_>) -> Result<Ask, Fault>),
}

/// What a request says besides its path.
pub(crate) struct Given<'a> {
    /// The path's variable part; empty if it has none.
    name: &'a str,
    query: Query<'a>,
    headers: &'a HeaderMap,
}

/// Every path.
pub(crate) const PLACES: [Place; 11] = [
    host(&["openapi.json"], &[Answers { method: "GET", query: &[], act: Act::Describe }]),
    host(&["whoami"], &[asks("GET", &[], |_given| Ok(Ask::WhoAmI))]),
    tenants(&["functions"], &[asks("GET", &[], |_given| Ok(Ask::Functions))]),
    tenants(
        &["functions", "{function}"],
        &[
            asks("GET", &[], |given| Ok(Ask::Function(function(given.name)?))),
            asks("PUT", &["dry_run"], deploy),
            asks("DELETE", &[], |given| Ok(Ask::Delete(function(given.name)?))),
        ],
    ),
    tenants(
        &["functions", "{function}", "rollback"],
        &[asks("POST", &[], |given| Ok(Ask::RollBack { function: function(given.name)?, to: None }))],
    ),
    tenants(&["functions", "{function}", "difference"], &[asks("GET", &["from", "to"], difference)]),
    tenants(&["keys"], &[asks("GET", &[], |_given| Ok(Ask::Keys)), asks("POST", &[], |_given| Ok(Ask::AddKey(no_key())))]),
    tenants(&["keys", "{key}"], &[asks("DELETE", &[], revoke)]),
    tenants(&["audit"], &[asks("GET", &["after"], |given| Ok(Ask::Audit { after: given.query.number("after")?.unwrap_or(0) }))]),
    host(&["tenants"], &[asks("GET", &[], |_given| Ok(Ask::Tenants))]),
    host(&["tenants", "{tenant}"], &[asks("PUT", &[], put_tenant), asks("DELETE", &[], |_given| Ok(Ask::RemoveTenant))]),
];

const fn host(parts: &'static [&'static str], answers: &'static [Answers]) -> Place {
    Place { parts, is_of_tenants: false, answers }
}

const fn tenants(parts: &'static [&'static str], answers: &'static [Answers]) -> Place {
    Place { parts, is_of_tenants: true, answers }
}

const fn asks(method: &'static str, query: &'static [&'static str], ask: fn(&Given<'_>) -> Result<Ask, Fault>) -> Answers {
    Answers { method, query, act: Act::Ask(ask) }
}

/// A path that there is.
pub(crate) struct Found<'a> {
    place: &'static Place,
    /// Whose things it is about, if it says so.
    pub(crate) tenant: Option<TenantId>,
    name: &'a str,
}

/// The place at `path`, which begins with `/v1`.
///
/// # Errors
/// `NotFound`, in the words of `unknown`.
pub(crate) fn find(path: &str, unknown: fn() -> Fault) -> Result<Found<'_>, Fault> {
    // No path has more parts, and what is left of a longer one is no name.
    let parts: Vec<&str> = path.strip_prefix("/v1/").ok_or_else(unknown)?.splitn(6, '/').collect();
    let (tenant, parts) = match parts[..] {
        ["tenants", tenant, _, ..] => (Some(tenant), &parts[2..]),
        _ => (None, &parts[..]),
    };
    let place = PLACES.iter().find(|place| (tenant.is_none() || place.is_of_tenants) && place.is_at(parts));
    let place = place.ok_or_else(unknown)?;
    let name = place.parts.iter().zip(parts).find_map(|(part, name)| part.starts_with('{').then_some(*name)).unwrap_or_default();
    let tenant = tenant.or((place.parts == ["tenants", "{tenant}"]).then_some(name));
    let tenant = tenant.map(TenantId::new).transpose().map_err(|_no_name| unknown())?;
    Ok(Found { place, tenant, name })
}

impl Place {
    fn is_at(&self, parts: &[&str]) -> bool {
        let is_like = |(part, given): (&&str, &&str)| part.starts_with('{') || part == given;
        self.parts.len() == parts.len() && self.parts.iter().zip(parts).all(is_like)
    }
}

impl<'a> Found<'a> {
    /// What `method` does here. Whatever answers GET answers HEAD.
    ///
    /// # Errors
    /// `MethodNotAllowed`.
    pub(crate) fn answers(&self, method: &Method) -> Result<&'static Answers, Fault> {
        let name = if *method == Method::HEAD { "GET" } else { method.as_str() };
        let answers = self.place.answers.iter().find(|answers| answers.method == name);
        answers.ok_or_else(|| wrong_method(method, &self.place.methods()))
    }

    /// What is asked here with that query.
    ///
    /// # Errors
    /// `InvalidInput` for what the path does not know, `NotFound` for what is no name.
    pub(crate) fn given(&self, answers: &Answers, query: Option<&'a str>, headers: &'a HeaderMap) -> Result<Given<'a>, Fault> {
        Ok(Given { name: self.name, query: Query::read(query, answers.query)?, headers })
    }
}

impl Place {
    fn methods(&self) -> Vec<&'static str> {
        let with_head = |answers: &Answers| if answers.method == "GET" { vec!["GET", "HEAD"] } else { vec![answers.method] };
        self.answers.iter().flat_map(with_head).collect()
    }
}

impl Answers {
    pub(crate) fn act(&self) -> Act {
        self.act
    }
}

fn deploy(given: &Given<'_>) -> Result<Ask, Fault> {
    // It is to be made: that it is no name is what is wrong with it, not that it is not there.
    let function = FunctionName::new(given.name).map_err(|error| invalid(error.to_string()))?;
    Ok(Ask::Deploy { function, dry_run: given.query.truth("dry_run")?.unwrap_or(false) })
}

fn difference(given: &Given<'_>) -> Result<Ask, Fault> {
    let release = |name| {
        let number = given.query.number(name)?.and_then(NonZeroU64::new).map(ReleaseNumber);
        number.ok_or_else(|| invalid("the query names two releases, as in `?from=1&to=2`; they are counted from 1"))
    };
    Ok(Ask::Difference { function: function(given.name)?, from: release("from")?, to: release("to")? })
}

fn revoke(given: &Given<'_>) -> Result<Ask, Fault> {
    let is_id = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    if (1..=KEY_BYTES_MAX).contains(&given.name.len()) && given.name.bytes().all(is_id) {
        return Ok(Ask::RevokeKey(given.name.to_owned()));
    }
    Err(Fault::new(Code::NotFound, "no such key"))
}

fn put_tenant(given: &Given<'_>) -> Result<Ask, Fault> {
    let terms = TenantTerms::default();
    Ok(if plane_head::adds(given.headers)? { Ask::AddTenant(terms) } else { Ask::ChangeTenant(terms) })
}

/// Until the body is read.
fn no_key() -> NewKey {
    NewKey { scopes: Vec::new(), label: String::new(), expires_in_seconds: None }
}

/// What follows the question mark. Nothing that is known has a character that would be percent-encoded.
struct Query<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Query<'a> {
    fn read(query: Option<&'a str>, known: &[&str]) -> Result<Self, Fault> {
        let mut parameters: Vec<(&str, &str)> = Vec::new();
        for parameter in query.unwrap_or_default().split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            if !known.contains(&name) {
                let name: String = name.chars().take(40).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return Err(invalid(format!("unknown query parameter `{name}`; known here: {known}")));
            }
            if parameters.iter().any(|(other, _)| *other == name) {
                return Err(invalid(format!("the query parameter `{name}` is there twice")));
            }
            parameters.push((name, value));
        }
        Ok(Self(parameters))
    }

    fn value(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    fn number(&self, name: &str) -> Result<Option<u64>, Fault> {
        let read = |value: &str| value.bytes().all(|byte| byte.is_ascii_digit()).then(|| value.parse().ok()).flatten();
        let wrong = || invalid(format!("the query parameter `{name}` is a whole number below 2^64"));
        self.value(name).map(|value| read(value).ok_or_else(wrong)).transpose()
    }

    fn truth(&self, name: &str) -> Result<Option<bool>, Fault> {
        let wrong = || invalid(format!("the query parameter `{name}` is `true` or `false`"));
        self.value(name).map(|value| value.parse().map_err(|_neither| wrong())).transpose()
    }
}

fn invalid(message: impl Into<String>) -> Fault {
    Fault::new(Code::InvalidInput, message)
}
