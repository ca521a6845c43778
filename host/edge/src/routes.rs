//! Which path and method lead where: a pure function, without a look at what is deployed.

use std::num::NonZeroU64;

use http::Method;
use sandmill_domain::ports::{Form, Target};
use sandmill_domain::{Advice, Caller, Code, Fault, FunctionName, ReleaseNumber, TenantId};

/// What a caller of an unknown path is told.
const SERVED: &str = "nothing is served at this path; there is /fn/{function}, /fn/{function}/{rest}, /v2, /v2/health/live, \
    /v2/health/ready, and under /v2/models/{model} or /v2/models/{model}/versions/{version}: the metadata, /ready and /infer; \
    /v2/repository/index, and under /v2/repository/models/{model} /load and /unload; functions models and repositories may have /tenants/{tenant} before \
    them";

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// The protocol's server metadata.
    Server,
    /// Whether the process lives.
    Live,
    /// Whether everything is warm.
    Ready,
    /// A model's metadata.
    Model(Named),
    /// Whether a model is warm.
    ModelReady(Named),
    /// What a tenant's repository has.
    Index {
        /// None where the path leaves it to the caller's key.
        tenant: Option<TenantId>,
    },
    /// A model is to be loaded.
    Load(Named),
    /// A model is to be unloaded.
    Unload(Named),
    /// A call, which `Service::admit` may still refuse.
    Call {
        /// Of what.
        named: Named,
        /// What follows the function's name, with its leading slash, percent-encoded; or empty.
        path_rest: String,
    },
}

/// A function as a path names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    /// None where the path leaves it to the caller's key.
    pub(crate) tenant: Option<TenantId>,
    pub(crate) function: FunctionName,
    /// None for the current one.
    pub(crate) release: Option<ReleaseNumber>,
    pub(crate) form: Form,
}

impl Named {
    /// What this caller means by it.
    ///
    /// # Errors
    /// `NotFound`, as for an unknown path, for what is another tenant's; `InvalidInput` where an operator names no tenant.
    pub(crate) fn of(self, caller: &Caller) -> Result<Target, Fault> {
        let Self { tenant, function, release, form } = self;
        let tenant = own(caller, tenant.as_ref())?;
        Ok(Target { tenant, function, release, form })
    }
}

/// The tenant that this caller means by a path.
///
/// # Errors
/// As [`Named::of`].
pub(crate) fn own(caller: &Caller, named: Option<&TenantId>) -> Result<TenantId, Fault> {
    caller.tenant(named).map_err(|fault| hide(fault, unknown))
}

/// Another tenant's things are refused in the very words that are used where there is nothing.
pub(crate) fn hide(fault: Fault, unknown: impl FnOnce() -> Fault) -> Fault {
    if fault.code == Code::NotFound { unknown() } else { fault }
}

/// The route of `method` on `path`, which is percent-encoded.
///
/// # Errors
/// `NotFound`; `MethodNotAllowed` with the methods that the path answers.
pub(crate) fn route(method: &Method, path: &str) -> Result<Route, Fault> {
    let (tenant, path) = tenant(path, unknown)?;
    if let Some(rest) = path.strip_prefix("/fn/") {
        let (name, path_rest) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let named = named(tenant, name, None, Form::Function)?;
        return Ok(Route::Call { named, path_rest: path_rest.to_owned() });
    }
    if let Some(rest) = path.strip_prefix("/v2/models/") {
        return model(method, tenant, rest);
    }
    if let Some(rest) = path.strip_prefix("/v2/repository/") {
        return repository(method, tenant, rest);
    }
    let route = match path {
        _ if tenant.is_some() => return Err(unknown()),
        "/v2" | "/v2/" => Route::Server,
        "/v2/health/live" => Route::Live,
        "/v2/health/ready" => Route::Ready,
        _ => return Err(unknown()),
    };
    only_reads(method).map(|()| route)
}

/// `/tenants/{tenant}` taken from before a path, if it is there. What cannot be a tenant's name is nobody's.
pub(crate) fn tenant(path: &str, unknown: impl FnOnce() -> Fault) -> Result<(Option<TenantId>, &str), Fault> {
    let Some(rest) = path.strip_prefix("/tenants/") else { return Ok((None, path)) };
    let (name, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    TenantId::new(name).map(|tenant| (Some(tenant), path)).map_err(|_no_name| unknown())
}

/// `{model}[/versions/{version}][/ready|/infer]`.
fn model(method: &Method, tenant: Option<TenantId>, path: &str) -> Result<Route, Fault> {
    let (name, rest) = path.split_at(path.find('/').unwrap_or(path.len()));
    let (release, action) = match rest.strip_prefix("/versions/") {
        Some(rest) => {
            let (version, action) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            (Some(release(version)?), action)
        }
        None => (None, rest),
    };
    let named = || named(tenant, name, release, Form::OpenInference);
    match action {
        "" => only_reads(method).and_then(|()| named().map(Route::Model)),
        "/ready" => only_reads(method).and_then(|()| named().map(Route::ModelReady)),
        "/infer" if *method == Method::POST => Ok(Route::Call { named: named()?, path_rest: String::new() }),
        "/infer" => Err(wrong_method(method, &["POST"])),
        _ => Err(unknown()),
    }
}

/// `index`, `models/{model}/load`, `models/{model}/unload`. Of repositories each tenant has one, which has no name.
fn repository(method: &Method, tenant: Option<TenantId>, path: &str) -> Result<Route, Fault> {
    let parts: Vec<&str> = path.splitn(4, '/').collect();
    let route = match parts[..] {
        ["index"] => Route::Index { tenant },
        ["models", model, "load"] => Route::Load(named(tenant, model, None, Form::OpenInference)?),
        ["models", model, "unload"] => Route::Unload(named(tenant, model, None, Form::OpenInference)?),
        _ => return Err(unknown()),
    };
    only_posts(method).map(|()| route)
}

/// Whether `method` suits a path that only answers questions.
pub(crate) fn only_reads(method: &Method) -> Result<(), Fault> {
    if matches!(*method, Method::GET | Method::HEAD) { Ok(()) } else { Err(wrong_method(method, &["GET", "HEAD"])) }
}

/// Whether `method` suits a path that does something.
pub(crate) fn only_posts(method: &Method) -> Result<(), Fault> {
    if *method == Method::POST { Ok(()) } else { Err(wrong_method(method, &["POST"])) }
}

fn named(tenant: Option<TenantId>, name: &str, release: Option<ReleaseNumber>, form: Form) -> Result<Named, Fault> {
    Ok(Named { tenant, function: function(name)?, release, form })
}

/// A function's name in a path.
pub(crate) fn function(name: &str) -> Result<FunctionName, Fault> {
    // The error repeats at most 100 characters of the name.
    FunctionName::new(name).map_err(|error| Fault::new(Code::NotFound, error.to_string()))
}

/// A model's version: `[0-9]+`, not 0.
fn release(version: &str) -> Result<ReleaseNumber, Fault> {
    // The parser alone would let a leading `+` pass.
    let digits = version.bytes().all(|byte| byte.is_ascii_digit());
    let number = if digits { version.parse::<NonZeroU64>().ok() } else { None };
    number.map(ReleaseNumber).ok_or_else(|| Fault::new(Code::NotFound, "no such version: versions are whole numbers from 1"))
}

/// The refusal of `method` on a path that answers others.
pub(crate) fn wrong_method(method: &Method, allowed: &[&str]) -> Fault {
    // A method is the caller's text: it is repeated only if it is short.
    let given = Some(method.as_str()).filter(|given| given.len() <= 16).unwrap_or("this method");
    let message = format!("this path answers {}, not {given}", allowed.join(" and "));
    let allowed = allowed.iter().map(|&name| name.to_owned()).collect();
    Fault::new(Code::MethodNotAllowed, message).advising(Advice::Allow(allowed))
}

fn unknown() -> Fault {
    Fault::new(Code::NotFound, SERVED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &str, release: Option<u64>, form: Form, path_rest: &str) -> Route {
        Route::Call { named: at(name, release, form), path_rest: path_rest.to_owned() }
    }

    fn at(name: &str, release: Option<u64>, form: Form) -> Named {
        let release = release.map(|number| ReleaseNumber(NonZeroU64::new(number).expect("not zero")));
        Named { tenant: None, function: FunctionName::new(name).expect("a name"), release, form }
    }

    fn acme() -> Option<TenantId> {
        TenantId::new("acme").ok()
    }

    #[test]
    fn paths_lead_where_they_should() {
        use Form::{Function, OpenInference};
        let cases = [
            ("POST", "/fn/digits", call("digits", None, Function, "")),
            ("PUT", "/fn/digits/", call("digits", None, Function, "/")),
            ("GET", "/fn/digits/a%2Fb//c", call("digits", None, Function, "/a%2Fb//c")),
            ("GET", "/v2", Route::Server),
            ("GET", "/v2/", Route::Server),
            ("HEAD", "/v2/health/live", Route::Live),
            ("GET", "/v2/health/ready", Route::Ready),
            ("GET", "/v2/models/m", Route::Model(at("m", None, OpenInference))),
            ("HEAD", "/v2/models/m/versions/3", Route::Model(at("m", Some(3), OpenInference))),
            ("GET", "/v2/models/m/ready", Route::ModelReady(at("m", None, OpenInference))),
            (
                "GET",
                "/v2/models/m/versions/18446744073709551615/ready",
                Route::ModelReady(at("m", Some(u64::MAX), OpenInference)),
            ),
            ("POST", "/v2/models/m/infer", call("m", None, OpenInference, "")),
            ("POST", "/v2/repository/index", Route::Index { tenant: None }),
            ("POST", "/tenants/acme/v2/repository/index", Route::Index { tenant: acme() }),
            ("POST", "/v2/repository/models/m/load", Route::Load(at("m", None, OpenInference))),
            (
                "POST",
                "/tenants/acme/v2/repository/models/m/unload",
                Route::Unload(Named { tenant: acme(), ..at("m", None, OpenInference) }),
            ),
            ("POST", "/v2/models/m/versions/007/infer", call("m", Some(7), OpenInference, "")),
            ("GET", "/tenants/acme/v2/models/m", Route::Model(Named { tenant: acme(), ..at("m", None, OpenInference) })),
            (
                "POST",
                "/tenants/acme/fn/digits/tenants/other/fn/x",
                Route::Call {
                    named: Named { tenant: acme(), ..at("digits", None, Function) },
                    path_rest: "/tenants/other/fn/x".to_owned(),
                },
            ),
        ];
        for (method, path, expected) in cases {
            let method: Method = method.parse().expect("a method");
            assert_eq!(route(&method, path).expect(path), expected, "{method} {path}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let long = format!("/fn/{}", "a".repeat(5000));
        let not_found = [
            "",
            "*",
            "/",
            "/fn",
            "/fn/",
            "/fn//x",
            "/fn/Digits",
            "/fn/%64igits",
            "/fn/-a",
            long.as_str(),
            "/v1",
            "/v2/health",
            "/v2/health/live/",
            "/v2/models",
            "/v2/models/",
            "/v2/models/A",
            "/v2/models/m/",
            "/v2/models/m/versions",
            "/v2/models/m/versions/",
            "/v2/models/m/versions/0",
            "/v2/models/m/versions/+1",
            "/v2/models/m/versions/-1",
            "/v2/models/m/versions/1x",
            "/v2/models/m/versions/18446744073709551616",
            "/v2/models/m/infer/",
            "/v2/models/m/config",
            "/v2/repository",
            "/v2/repository/index/",
            "/v2/repository/store/index",
            "/v2/repository/models/m",
            "/v2/repository/models/M/load",
            "/v2/repository/models/m/load/1",
            "/metrics",
            "/tenants",
            "/tenants/",
            "/tenants/acme",
            "/tenants/acme/",
            "/tenants/acme/v2",
            "/tenants/acme/v2/health/live",
            "/tenants/Acme/fn/x",
            "/tenants//fn/x",
            "/tenants/acme/tenants/acme/fn/x",
        ];
        for path in not_found {
            let fault = route(&Method::GET, path).expect_err(path);
            assert_eq!(fault.code, Code::NotFound, "{path}");
            assert!(fault.message.len() < 500, "{}", fault.message);
        }
        let wrong = [
            ("POST", "/v2", "GET, HEAD"),
            ("DELETE", "/v2/health/ready", "GET, HEAD"),
            ("POST", "/v2/models/m", "GET, HEAD"),
            ("POST", "/v2/models/m/ready", "GET, HEAD"),
            ("GET", "/v2/models/m/infer", "POST"),
            ("HEAD", "/v2/models/m/versions/1/infer", "POST"),
            ("GET", "/v2/repository/index", "POST"),
            ("DELETE", "/v2/repository/models/m/unload", "POST"),
        ];
        for (method, path, allowed) in wrong {
            let fault = route(&method.parse().expect("a method"), path).expect_err(path);
            assert_eq!(fault.code, Code::MethodNotAllowed, "{path}");
            let allowed: Vec<_> = allowed.split(", ").map(str::to_owned).collect();
            assert_eq!(fault.advice, Some(Advice::Allow(allowed)), "{path}");
        }
    }
}
