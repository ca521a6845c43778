//! `sandmill invoke`: one call of a running server's function, for a person at a terminal.

use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};

use crate::cli::InvokeOptions;
use crate::client::{Access, Body, Exchange, Refusal, exchange, warn};

/// The largest body that is sent or taken, in bytes: the largest that a server can be configured to take.
const BODY_BYTES_MAX: u64 = 1 << 30;

/// Sends the file and prints the answer; an answer that is no success is a failure with the server's words.
pub(crate) fn run(options: &InvokeOptions) -> Result<()> {
    let mut access = Access::find(&options.who)?;
    if let Some(server) = &options.server {
        access.functions = server.clone();
    }
    if access.key.is_some() && access.functions.is_open() {
        warn(&format!("the key goes to {} without TLS: others on the way can read it", access.functions));
    }
    let request = request(options, &access)?;
    let how = Exchange {
        server: &access.functions,
        trust: &access.trust,
        time: Duration::from_secs(options.timeout),
        bytes_max: usize::try_from(BODY_BYTES_MAX).unwrap_or(usize::MAX),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(exchange(&how, request))?;
    if !answer.status.is_success() {
        return Err(Refusal::new(answer.status, answer.body).into());
    }
    let mut out = std::io::stdout().lock();
    out.write_all(&answer.body).and_then(|()| out.flush()).context("cannot write the answer to standard output")
}

fn request(options: &InvokeOptions, access: &Access) -> Result<Request<Body>> {
    let tenant = access.tenant.as_ref().map(|tenant| format!("/tenants/{tenant}")).unwrap_or_default();
    let path = access.functions.path(&format!("{tenant}/fn/{}", options.name.trim_start_matches('/')));
    let content_type = options.content_type.as_deref().unwrap_or_else(|| guess_content_type(&options.file));
    let body = Full::new(Bytes::from(read_body(&options.file)?)).map_err(|never| match never {});
    let mut request = Request::post(path).header(CONTENT_TYPE, content_type);
    if let Some(key) = &access.key {
        request = request.header(AUTHORIZATION, key.header());
    }
    request.body(Body::new(body)).with_context(|| format!("`{}` makes no HTTP request", options.name))
}

fn read_body(file: &Path) -> Result<Vec<u8>> {
    let (source, name): (Box<dyn Read>, _) = if file == Path::new("-") {
        (Box::new(std::io::stdin().lock()), "standard input".to_owned())
    } else {
        let open = std::fs::File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
        (Box::new(open), file.display().to_string())
    };
    let mut body = Vec::new();
    source.take(BODY_BYTES_MAX + 1).read_to_end(&mut body).with_context(|| format!("cannot read {name}"))?;
    if body.len() as u64 > BODY_BYTES_MAX {
        bail!("{name} is larger than {BODY_BYTES_MAX} bytes");
    }
    Ok(body)
}

pub(crate) fn guess_content_type(file: &Path) -> &'static str {
    let is_json = file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    if is_json { "application/json" } else { "application/octet-stream" }
}
