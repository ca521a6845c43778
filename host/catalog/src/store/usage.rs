//! What tenants have used, hour by hour: each host writes an object of its own for each hour and tenant, again and again while the
//! hour lasts, and whoever asks adds them up. So hosts need not agree on anything, and what is written twice counts once.

use std::collections::BTreeMap;

use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use sandmill_domain::{FunctionName, TenantId, Usage};
use serde::{Deserialize, Serialize};

use super::access::Store;
use super::codec::{decode, encode};
use super::error::StoreError;
use super::ids::Id;
use super::layout;
use super::records::SCHEMA;

/// One tenant's on one host, in bytes; some hundred for each function.
const RECORD_BYTES_MAX: u64 = 4 << 20;

/// What one host writes of one tenant for one hour.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    v: u32,
    functions: BTreeMap<FunctionName, Usage>,
}

impl Store {
    /// Writes what this host, by an id of its own, has seen a tenant use in an hour since 1970; in place of what it wrote before.
    ///
    /// # Errors
    /// The store's.
    pub async fn write_usage(
        &self,
        tenant: &TenantId,
        hour: u64,
        host: Id,
        functions: BTreeMap<FunctionName, Usage>,
    ) -> Result<(), StoreError> {
        let path = layout::usage(tenant, hour, host);
        let payload = PutPayload::from_bytes(encode(&Record { v: SCHEMA, functions }));
        let attempt = || async {
            self.check_place(&path).await?;
            let put = self.limited(async { Ok(self.client().put(&path, payload.clone()).await?) }).await;
            put.map(drop)
        };
        self.retry(attempt).await.map_err(self.fail(&path))
    }

    /// What a tenant used in these hours since 1970, the last one included, on all hosts: by hour, then by function.
    ///
    /// # Errors
    /// The store's, or a record that is damaged.
    pub async fn usage(
        &self,
        tenant: &TenantId,
        first: u64,
        last: u64,
    ) -> Result<BTreeMap<u64, BTreeMap<FunctionName, Usage>>, StoreError> {
        let mut hours: BTreeMap<u64, BTreeMap<FunctionName, Usage>> = BTreeMap::new();
        let before = first.checked_sub(1).map(|hour| layout::usage_end(tenant, hour));
        for object in self.list(&layout::all_usage(tenant), before.as_ref()).await? {
            let Some(hour) = layout::hour(&object.location).filter(|hour| (first..=last).contains(hour)) else { continue };
            let Some(record) = self.read_usage(&object.location).await? else { continue };
            let functions = hours.entry(hour).or_default();
            for (function, usage) in record.functions {
                let sum = functions.entry(function).or_default();
                *sum = sum.and(usage);
            }
        }
        Ok(hours)
    }

    async fn read_usage(&self, path: &Path) -> Result<Option<Record>, StoreError> {
        let Some(bytes) = self.read(path, RECORD_BYTES_MAX).await? else { return Ok(None) };
        decode(|| self.name(path), &bytes).map(Some)
    }
}
