//! The protocol's extension for model repositories: what a tenant's has, and its models loaded and unloaded when somebody asks.

use bytes::Bytes;
use http::StatusCode;
use sandmill_domain::ports::Target;
use sandmill_domain::{Fault, Reply, TenantId};
use sandmill_protocol as protocol;
use tokio::time::Instant;

use crate::shared::Shared;
use crate::upload::{Upload, UploadBounds};

/// What is asked is small.
const BODY_BYTES_MAX: usize = 16 << 10;

pub(crate) async fn index(shared: &Shared, tenant: &TenantId, upload: &mut Upload) -> Result<Reply, Fault> {
    let only_ready = protocol::repository_index_wish(&body(shared, upload).await?)?;
    Ok(protocol::repository_index(&shared.service.repository(tenant), only_ready))
}

pub(crate) async fn load(shared: &Shared, target: Target, upload: &mut Upload) -> Result<Reply, Fault> {
    protocol::repository_load_wish(&body(shared, upload).await?)?;
    shared.service.load(&target.tenant, &target.function).await.map(|()| done())
}

pub(crate) async fn unload(shared: &Shared, target: Target, upload: &mut Upload) -> Result<Reply, Fault> {
    protocol::repository_unload_wish(&body(shared, upload).await?)?;
    shared.service.unload(&target.tenant, &target.function).await.map(|()| done())
}

async fn body(shared: &Shared, upload: &mut Upload) -> Result<Bytes, Fault> {
    let until = Instant::now() + shared.limits.body_time;
    let bounds = UploadBounds { bytes_max: BODY_BYTES_MAX, bound: "the limit of what a repository is asked", until };
    let (body, _share) = upload.read(bounds, shared.bodies.share(None)).await?;
    Ok(body)
}

fn done() -> Reply {
    Reply { status: StatusCode::OK, headers: Vec::new(), body: Bytes::new() }
}
