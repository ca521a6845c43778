//! What operators ask: about all tenants, about one, and about their own keys and history.

use std::time::Duration;

use futures_util::future::join_all;
use sandmill_catalog::store::{Author, Refusal, Revision, SystemChange, SystemState};
use sandmill_domain::control::{Answer, Answered, Ask, Refused, TenantDetail, TenantTerms};
use sandmill_domain::{Code, Fault, Label, TenantId};
use tokio::time::timeout;

use super::faults::{refused, store_fault};
use super::{AUDIT_MAX, ControlPlane, keys, page, views};

/// How long whoever changes a tenant waits for this host to be at one with it.
const SETTLE_TIME: Duration = Duration::from_secs(5);

impl ControlPlane {
    /// About all tenants, or the operators themselves.
    pub(crate) async fn answer_operator(
        &self,
        ask: Ask,
        revision: Option<Revision>,
        author: &Author,
    ) -> Result<Answered, Refused> {
        let answer = match ask {
            Ask::Tenants => {
                let snapshot = self.catalog.snapshot();
                let tenants = snapshot.system.state.tenants().keys();
                Answer::Tenants { tenants: tenants.filter_map(|tenant| self.tenant_detail(tenant)).collect() }
            }
            Ask::Keys => {
                let keys = self.catalog.snapshot().system.state.keys().values().map(views::key).collect();
                Answer::Keys { keys }
            }
            Ask::AddKey(wanted) => {
                let (key, secret) = keys::make(wanted);
                let change = |_: &_| Ok(SystemChange::KeyAdded(key.clone()));
                self.catalog.change_system(revision, author, change).await.map_err(refused)?;
                self.take_over(&self.catalog.snapshot());
                Answer::KeyAdded { key: views::key(&key), secret }
            }
            Ask::RevokeKey(id) => self.revoke_operator(id, revision, author).await?,
            Ask::Audit { after } => {
                let log = self.catalog.store().system_log();
                let entries = log.entries(Revision(after), AUDIT_MAX + 1).await.map_err(store_fault)?;
                page(entries.iter().map(|(at, entry)| views::system_entry(*at, entry)).collect())
            }
            _ => return Err(Fault::new(Code::InvalidInput, "name a tenant in the path, as in /v1/tenants/{tenant}/…").into()),
        };
        Ok(self.answered_by_system(answer))
    }

    async fn revoke_operator(&self, id: Label, revision: Option<Revision>, author: &Author) -> Result<Answer, Refused> {
        let change = |state: &SystemState| {
            let is_last = state.keys().len() == 1 && state.keys().contains_key(&id);
            if is_last { Err(Refusal::LastKey) } else { Ok(SystemChange::KeyRevoked { id: id.clone() }) }
        };
        self.catalog.change_system(revision, author, change).await.map_err(refused)?;
        self.take_over(&self.catalog.snapshot());
        Ok(Answer::Gone {})
    }

    /// About one tenant, for operators.
    pub(crate) async fn answer_of_tenant(
        &self,
        ask: Ask,
        tenant: &TenantId,
        revision: Option<Revision>,
        author: &Author,
    ) -> Result<Answered, Refused> {
        let (tenant, name) = (tenant.clone(), tenant);
        let change = move |_: &_| {
            let tenant = tenant.clone();
            Ok(match &ask {
                Ask::AddTenant(TenantTerms { weight, quotas }) => {
                    SystemChange::TenantAdded { tenant, weight: *weight, quotas: *quotas }
                }
                Ask::ChangeTenant(TenantTerms { weight, quotas }) => {
                    SystemChange::TenantChanged { tenant, weight: *weight, quotas: *quotas }
                }
                Ask::RemoveTenant => SystemChange::TenantRemoved { tenant },
                _ => return Err(Refusal::Unknown("such question about a tenant".to_owned())),
            })
        };
        self.catalog.change_system(revision, author, change).await.map_err(refused)?;
        // Its log is read before anybody asks for it; if it cannot be now, that is for the next round: what was asked is done.
        if let Err(error) = self.catalog.refresh().await {
            tracing::warn!(%error, tenant = %name, "a tenant has changed, and the store cannot be read again yet");
        }
        // What this host is still loading then is told by the functions themselves.
        let _late = timeout(SETTLE_TIME, join_all(self.settle())).await;
        let Some(detail) = self.tenant_detail(name) else {
            return Ok(self.answered_by_system(Answer::Gone {}));
        };
        Ok(self.answered_by_system(Answer::Tenant(detail)))
    }

    fn tenant_detail(&self, tenant: &TenantId) -> Option<TenantDetail> {
        let snapshot = self.catalog.snapshot();
        let known = snapshot.system.state.tenants().get(tenant)?;
        let terms = TenantTerms { weight: known.weight, quotas: known.quotas };
        Some(TenantDetail { tenant: tenant.clone(), terms, functions: self.tenant(tenant).functions().len() })
    }
}
