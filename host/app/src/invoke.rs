//! `sandmill invoke`: one call of a running server's function, for a person at a terminal.

use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::CONTENT_TYPE;
use hyper::{Request, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use crate::cli::InvokeOptions;

/// The largest body that is sent or taken, in bytes: the largest that a server can be configured to take.
const BODY_BYTES_MAX: u64 = 1 << 30;

/// Sends the file and prints the answer; an answer that is no success is a failure with the server's words.
pub(crate) fn run(options: &InvokeOptions) -> Result<()> {
    let request = request(options)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let timeout = Duration::from_secs(options.timeout);
    let (status, body) = runtime
        .block_on(async { tokio::time::timeout(timeout, send(request)).await })
        .with_context(|| format!("no answer from {} within {} s (--timeout)", options.server, options.timeout))?
        .with_context(|| format!("cannot call {}; is the server running? (--server URL)", options.server))?;
    if !status.is_success() {
        bail!("{status}: {}", String::from_utf8_lossy(&body).trim_end());
    }
    let mut out = std::io::stdout().lock();
    out.write_all(&body).and_then(|()| out.flush()).context("cannot write the answer to standard output")
}

fn request(options: &InvokeOptions) -> Result<Request<Full<Bytes>>> {
    let server = options.server.trim_end_matches('/');
    let uri: Uri = format!("{server}/fn/{}", options.name.trim_start_matches('/'))
        .parse()
        .with_context(|| format!("`{server}` with function `{}` makes no URL", options.name))?;
    if uri.scheme_str() != Some("http") || uri.host().is_none() {
        bail!("`{server}` is no server: it must look like http://127.0.0.1:8080");
    }
    let content_type = options.content_type.as_deref().unwrap_or_else(|| guess_content_type(&options.file));
    let body = Full::new(Bytes::from(read_body(&options.file)?));
    Request::post(uri).header(CONTENT_TYPE, content_type).body(body).context("the call makes no HTTP request")
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

fn guess_content_type(file: &Path) -> &'static str {
    let is_json = file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    if is_json { "application/json" } else { "application/octet-stream" }
}

async fn send(request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes)> {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let answer = client.request(request).await?;
    let status = answer.status();
    let limit = usize::try_from(BODY_BYTES_MAX).unwrap_or(usize::MAX);
    let body = Limited::new(answer.into_body(), limit).collect().await.map_err(|error| anyhow::anyhow!(error))?;
    Ok((status, body.to_bytes()))
}
