//! The paths below `/v1`: which there are, what each answers, and what is asked by it. A table, without a look at who asks.

use std::num::NonZeroU64;
use std::time::UNIX_EPOCH;

use http::{HeaderMap, Method};
use sandmill_domain::control::{Ask, NewKey, TenantTerms, Version};
use sandmill_domain::{Code, Fault, FunctionName, Label, ReleaseNumber, TenantId};

use crate::plane_head;
use crate::routes::{function, wrong_method};

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

/// One path: its parts behind `/v1`, the variable ones in braces.
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
    /// The path's first variable part; empty if it has none.
    name: &'a str,
    /// The second one, likewise.
    version: &'a str,
    query: Query<'a>,
    headers: &'a HeaderMap,
}

/// Every path.
pub(crate) const PLACES: [Place; 19] = [
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
    tenants(&["functions", "{function}", "logs"], &[asks("GET", &["after", "wait_ms"], logs)]),
    tenants(&["functions", "{function}", "difference"], &[asks("GET", &["from", "to"], difference)]),
    tenants(&["plugins"], &[asks("GET", &[], |_given| Ok(Ask::Plugins))]),
    tenants(&["plugins", "{plugin}"], &[asks("GET", &[], |given| Ok(Ask::Plugin(label(given.name)?)))]),
    tenants(
        &["plugins", "{plugin}", "versions", "{version}"],
        &[
            asks("PUT", &[], |given| Ok(Ask::AddPlugin(new_version(given)?))),
            asks("DELETE", &[], |given| Ok(Ask::RemovePlugin(version(given)?))),
        ],
    ),
    tenants(&["models"], &[asks("GET", &[], |_given| Ok(Ask::Models))]),
    tenants(&["models", "{model}"], &[asks("GET", &[], |given| Ok(Ask::Model(label(given.name)?)))]),
    tenants(
        &["models", "{model}", "versions", "{version}"],
        &[
            asks("PUT", &[], |given| Ok(Ask::AddModel { version: new_version(given)?, form: plane_head::form(given.headers) })),
            asks("DELETE", &[], |given| Ok(Ask::RemoveModel(version(given)?))),
        ],
    ),
    tenants(&["keys"], &[asks("GET", &[], |_given| Ok(Ask::Keys)), asks("POST", &[], |_given| Ok(Ask::AddKey(no_key())))]),
    tenants(&["keys", "{key}"], &[asks("DELETE", &[], revoke)]),
    tenants(&["audit"], &[asks("GET", &["after"], |given| Ok(Ask::Audit { after: given.query.number("after")?.unwrap_or(0) }))]),
    tenants(&["usage"], &[asks("GET", &["from_ms", "to_ms"], usage)]),
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
    version: &'a str,
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
    let mut names = place.parts.iter().zip(parts).filter(|(part, _)| part.starts_with('{')).map(|(_, name)| *name);
    let (name, version) = (names.next().unwrap_or_default(), names.next().unwrap_or_default());
    let tenant = match tenant {
        Some(tenant) => Some(TenantId::new(tenant).map_err(|_no_name| unknown())?),
        None if place.is_a_tenant() => Some(TenantId::new(name).map_err(|error| Fault::new(Code::NotFound, error.to_string()))?),
        None => None,
    };
    Ok(Found { place, tenant, name, version })
}

impl Place {
    fn is_at(&self, parts: &[&str]) -> bool {
        let is_like = |(part, given): (&&str, &&str)| part.starts_with('{') || part == given;
        self.parts.len() == parts.len() && self.parts.iter().zip(parts).all(is_like)
    }

    /// Whether it is a tenant itself, and none of its things.
    fn is_a_tenant(&self) -> bool {
        self.parts == ["tenants", "{tenant}"]
    }

    fn methods(&self) -> Vec<&'static str> {
        let with_head = |answers: &Answers| if answers.method == "GET" { vec!["GET", "HEAD"] } else { vec![answers.method] };
        self.answers.iter().flat_map(with_head).collect()
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
        Ok(Given { name: self.name, version: self.version, query: Query::read(query, answers.query)?, headers })
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
    Ok(Ask::Deploy { function, form: plane_head::form(given.headers), dry_run: given.query.truth("dry_run")?.unwrap_or(false) })
}

fn label(name: &str) -> Result<Label, Fault> {
    Label::new(name).map_err(|error| Fault::new(Code::NotFound, error.to_string()))
}

fn version(given: &Given<'_>) -> Result<Version, Fault> {
    Ok(Version { name: label(given.name)?, version: label(given.version)? })
}

/// One to be made, as of a deployment.
fn new_version(given: &Given<'_>) -> Result<Version, Fault> {
    version(given).map_err(|fault| invalid(fault.message))
}

fn difference(given: &Given<'_>) -> Result<Ask, Fault> {
    let release = |name| {
        let number = given.query.number(name)?.and_then(NonZeroU64::new).map(ReleaseNumber);
        number.ok_or_else(|| invalid("the query names two releases, as in `?from=1&to=2`; they are counted from 1"))
    };
    Ok(Ask::Difference { function: function(given.name)?, from: release("from")?, to: release("to")? })
}

fn logs(given: &Given<'_>) -> Result<Ask, Fault> {
    let number = |name| Ok::<_, Fault>(given.query.number(name)?.unwrap_or(0));
    Ok(Ask::Logs { function: function(given.name)?, after: number("after")?, wait_ms: number("wait_ms")? })
}

/// The last day, if nothing else is asked for.
fn usage(given: &Given<'_>) -> Result<Ask, Fault> {
    let now_ms = || UNIX_EPOCH.elapsed().map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
    let to_ms = given.query.number("to_ms")?.unwrap_or_else(now_ms);
    let from_ms = given.query.number("from_ms")?.unwrap_or(to_ms.saturating_sub(DAY_MS));
    Ok(Ask::Usage { first: from_ms / HOUR_MS, last: to_ms / HOUR_MS })
}

fn revoke(given: &Given<'_>) -> Result<Ask, Fault> {
    let id = Label::new(given.name).map_err(|_no_id| Fault::new(Code::NotFound, "no such key"))?;
    Ok(Ask::RevokeKey(id))
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

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use sandmill_domain::control::Form;
    use serde_json::Value;

    use super::*;

    fn not_there() -> Fault {
        Fault::new(Code::NotFound, "nothing")
    }

    /// What is asked by a request, in the domain's words; or what it is refused with.
    fn asked(method: &str, path: &str, query: Option<&str>) -> Result<(Option<String>, Ask), Code> {
        let method: Method = method.parse().expect("a method");
        let ask = |found: &Found<'_>| {
            let answers = found.answers(&method)?;
            let headers = HeaderMap::new();
            match answers.act() {
                Act::Describe => Err(Fault::new(Code::Unsupported, "shown")),
                Act::Ask(ask) => ask(&found.given(answers, query, &headers)?),
            }
        };
        let found = find(path, not_there).map_err(|fault| fault.code)?;
        let tenant = found.tenant.as_ref().map(ToString::to_string);
        ask(&found).map(|ask| (tenant, ask)).map_err(|fault| fault.code)
    }

    fn name(name: &str) -> FunctionName {
        FunctionName::new(name).expect("a name")
    }

    fn of(name: &str, version: &str) -> Version {
        Version { name: label(name).expect("a name"), version: label(version).expect("a version") }
    }

    fn release(number: u64) -> ReleaseNumber {
        ReleaseNumber(NonZeroU64::new(number).expect("not zero"))
    }

    #[test]
    fn paths_are_asked_for_what_they_say() {
        let cases = [
            ("GET", "/v1/whoami", "", None, Ask::WhoAmI),
            ("GET", "/v1/functions", "", None, Ask::Functions),
            ("HEAD", "/v1/tenants/acme/functions", "", Some("acme"), Ask::Functions),
            ("GET", "/v1/functions/f", "&&", None, Ask::Function(name("f"))),
            ("PUT", "/v1/functions/f", "", None, Ask::Deploy { function: name("f"), form: Form::File, dry_run: false }),
            (
                "PUT",
                "/v1/tenants/a/functions/f",
                "dry_run=true",
                Some("a"),
                Ask::Deploy { function: name("f"), form: Form::File, dry_run: true },
            ),
            (
                "PUT",
                "/v1/functions/f",
                "dry_run=false",
                None,
                Ask::Deploy { function: name("f"), form: Form::File, dry_run: false },
            ),
            ("DELETE", "/v1/functions/f", "", None, Ask::Delete(name("f"))),
            ("POST", "/v1/functions/f/rollback", "", None, Ask::RollBack { function: name("f"), to: None }),
            (
                "GET",
                "/v1/functions/f/difference",
                "to=2&from=18446744073709551615",
                None,
                Ask::Difference { function: name("f"), from: release(u64::MAX), to: release(2) },
            ),
            ("GET", "/v1/plugins", "", None, Ask::Plugins),
            ("GET", "/v1/tenants/acme/plugins/resize_2", "", Some("acme"), Ask::Plugin(label("resize_2").expect("a name"))),
            ("PUT", "/v1/plugins/versions/versions/versions", "", None, Ask::AddPlugin(of("versions", "versions"))),
            ("DELETE", "/v1/plugins/resize/versions/1.2.0", "", None, Ask::RemovePlugin(of("resize", "1.2.0"))),
            ("GET", "/v1/models", "", None, Ask::Models),
            ("GET", "/v1/models/digits", "", None, Ask::Model(label("digits").expect("a name"))),
            (
                "PUT",
                "/v1/tenants/acme/models/digits/versions/3",
                "",
                Some("acme"),
                Ask::AddModel { version: of("digits", "3"), form: Form::File },
            ),
            ("DELETE", "/v1/tenants/a/models/digits/versions/3", "", Some("a"), Ask::RemoveModel(of("digits", "3"))),
            ("GET", "/v1/keys", "", None, Ask::Keys),
            ("POST", "/v1/tenants/acme/keys", "", Some("acme"), Ask::AddKey(no_key())),
            ("DELETE", "/v1/keys/k-1_.z", "", None, Ask::RevokeKey(Label::new("k-1_.z").expect("a label"))),
            ("GET", "/v1/audit", "", None, Ask::Audit { after: 0 }),
            ("GET", "/v1/usage", "from_ms=7200001&to_ms=10800000", None, Ask::Usage { first: 2, last: 3 }),
            ("GET", "/v1/tenants/acme/audit", "after=7", Some("acme"), Ask::Audit { after: 7 }),
            ("GET", "/v1/tenants", "", None, Ask::Tenants),
            ("PUT", "/v1/tenants/acme", "", Some("acme"), Ask::ChangeTenant(TenantTerms::default())),
            ("DELETE", "/v1/tenants/functions", "", Some("functions"), Ask::RemoveTenant),
        ];
        for (method, path, query, tenant, ask) in cases {
            let query = (!query.is_empty()).then_some(query);
            assert_eq!(asked(method, path, query), Ok((tenant.map(str::to_owned), ask)), "{method} {path} {query:?}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let long = format!("/v1/keys/{}", "k".repeat(1000));
        for path in [
            "/v1",
            "/v1/",
            "/v1/x",
            "/v1//functions",
            "/v1/functions/",
            "/v1/functions/F",
            "/v1/functions/f/",
            "/v1/functions/%66",
            "/v1/functions/f/rollback/x",
            "/v1/functions/f/versions",
            "/v1/plugins/p/versions",
            "/v1/plugins/p/versions/",
            "/v1/plugins/p/versions/..",
            "/v1/plugins/p/versions/1/x",
            "/v1/tenants/acme/plugins/p/versions/1/x",
            "/v1/models/%6d/versions/1",
            "/v1/keys/",
            "/v1/keys/a%20b",
            "/v1/keys/a/b",
            long.as_str(),
            "/v1/tenants/",
            "/v1/tenants/Acme",
            "/v1/tenants/acme/",
            "/v1/tenants/acme/whoami",
            "/v1/tenants/acme/tenants",
            "/v1/tenants/acme/openapi.json",
            "/v1/tenants/acme/tenants/acme",
            "/v1/tenants//functions",
            "/v1/tenants/a_b/functions",
            "/v1/tenants/acme/functions/f/rollback/x/y",
            "/v2/functions",
            "/v1functions",
            "",
        ] {
            for method in ["GET", "DELETE"] {
                let code = asked(method, path, None).expect_err(path);
                assert!(matches!(code, Code::NotFound | Code::MethodNotAllowed), "{method} {path}: {code:?}");
            }
            assert_eq!(asked("GET", path, None).or_else(|_| asked("DELETE", path, None)), Err(Code::NotFound), "{path}");
        }
        for path in ["/v1/plugins/", "/v1/plugins/P", "/v1/models/..", "/v1/tenants/acme/models/"] {
            assert_eq!(asked("GET", path, None), Err(Code::NotFound), "{path}");
        }
        for (method, path, query) in [
            ("PUT", "/v1/functions/F", ""),
            ("PUT", "/v1/plugins/P/versions/1", ""),
            ("PUT", "/v1/plugins/p/versions/1+2", ""),
            ("PUT", "/v1/models/m/versions/-1", ""),
            ("PUT", "/v1/models/m/versions/1", "dry_run=true"),
            ("GET", "/v1/functions", "x=1"),
            ("GET", "/v1/functions", "x"),
            ("PUT", "/v1/functions/f", "dry_run"),
            ("PUT", "/v1/functions/f", "dry_run=1"),
            ("PUT", "/v1/functions/f", "dry_run=TRUE"),
            ("PUT", "/v1/functions/f", "dry_run=true&dry_run=true"),
            ("PUT", "/v1/functions/f", "dry%5Frun=true"),
            ("DELETE", "/v1/functions/f", "dry_run=true"),
            ("GET", "/v1/functions/f/difference", ""),
            ("GET", "/v1/functions/f/difference", "from=1"),
            ("GET", "/v1/functions/f/difference", "from=0&to=1"),
            ("GET", "/v1/functions/f/difference", "from=1&to=+2"),
            ("GET", "/v1/functions/f/difference", "from=1&to=18446744073709551616"),
            ("GET", "/v1/audit", "after=-1"),
            ("GET", "/v1/audit", "after="),
            ("GET", "/v1/audit", "after=1&before=2"),
        ] {
            assert_eq!(asked(method, path, Some(query)), Err(Code::InvalidInput), "{method} {path}?{query}");
        }
    }

    /// Each path and method, with the parameters in its query.
    type Paths = BTreeMap<(String, String), BTreeSet<String>>;

    fn described() -> Paths {
        let page: Value = serde_json::from_str(include_str!("openapi.json")).expect("JSON");
        let mut paths = Paths::new();
        for (path, item) in page["paths"].as_object().expect("paths") {
            for (method, operation) in item.as_object().expect("methods").iter().filter(|(key, _)| *key != "parameters") {
                let parameters = operation["parameters"].as_array().into_iter().flatten();
                let parameters = parameters.map(|parameter| {
                    let reference = parameter["$ref"].as_str().expect("a reference").trim_start_matches('#');
                    page.pointer(reference).expect("what it refers to")
                });
                let query = parameters.filter(|parameter| parameter["in"] == "query");
                let query = query.map(|parameter| parameter["name"].as_str().expect("a name").to_owned()).collect();
                paths.insert((method.to_uppercase(), path.clone()), query);
            }
        }
        paths
    }

    #[test]
    fn the_description_has_every_path_and_no_other() {
        let mut routed = Paths::new();
        for place in &PLACES {
            for prefix in if place.is_of_tenants { &["/v1", "/v1/tenants/{tenant}"][..] } else { &["/v1"] } {
                for answers in place.answers {
                    let path = format!("{prefix}/{}", place.parts.join("/"));
                    routed.insert((answers.method.to_owned(), path), answers.query.iter().map(|&name| name.to_owned()).collect());
                }
            }
        }
        assert_eq!(described(), routed);
    }
}
