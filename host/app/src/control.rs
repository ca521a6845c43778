//! The control plane: tenants, keys and releases, changed in the catalog's store and then served here. Joins the store, the sandbox
//! and the engine; how it is asked over HTTP is the edge's matter.

mod deploy;
mod faults;
mod folders;
mod follow;
mod keys;
mod loads;
mod logs;
mod meter;
mod operators;
mod pace;
mod queue;
mod quotas;
mod record;
mod uploads;
mod versions;
mod views;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures_util::future::join_all;
use sandmill_catalog::store::{Author, Catalog, Revision, Store, StoreOptions, SystemChange, TenantChange, TenantState};
use sandmill_catalog::{ArchiveLimits, FileLimits, UploadKind, Uploads};
use sandmill_domain::control::{
    Answer, Answered, Ask, Asked, Deployment, FunctionDetail, FunctionSummary, Identity, NewKey, Quotas, Refused,
};
use sandmill_domain::ports::{Body, BoxFuture, Control, Keys};
use sandmill_domain::{Code, Fault, FunctionName, Journal, ReleaseNumber, TenantId};
use sandmill_telemetry::Telemetry;
use tokio::runtime::Handle;
use tokio::time::timeout;

use self::deploy::{Received, Wanted};
use self::faults::refused;
use self::folders::Folders;
use self::follow::{Following, Name};
pub(crate) use self::keys::{KeyRing, id_of as key_id, make as make_key, now_ms};
use self::loads::Loads;
use self::logs::Logs;
use self::meter::Meter;
use self::pace::Pace;
use self::queue::Queue;
use self::uploads::Adding;
pub(crate) use self::views::lines as changed_lines;
use crate::accounts::Accounts;
use crate::config::Config;
use crate::config_store::Books;
use crate::holdings::Holdings;

/// Records that one answer tells at most.
const AUDIT_MAX: usize = 500;
/// Hours that one answer tells at most: a month.
const USAGE_HOURS_MAX: u64 = 31 * 24;
/// How long functions may take to be loaded before the host is ready without them.
const START_TIME: Duration = Duration::from_secs(120);
/// By whom changes are that nobody asked for.
const HOST: &str = "host";

/// The control plane of one host.
pub(crate) struct ControlPlane {
    this: Weak<Self>,
    catalog: Catalog,
    keys: Arc<KeyRing>,
    accounts: Accounts,
    holdings: Arc<Holdings>,
    folders: Folders,
    following: Following,
    meter: Meter,
    /// What functions' plugins have said, also those whose deployment failed.
    logs: Logs,
    file_limits: FileLimits,
    archive_limits: ArchiveLimits,
    poll: Duration,
    books: Books,
    /// Whether there are functions that should answer and do not yet.
    starting: AtomicBool,
    /// Releases that are being loaded because the catalog says so,
    loads: Loads,
    /// and deployments and uploads.
    queue: Queue,
    pace: Pace,
}

/// Opens the store that a configuration names.
pub(crate) async fn open_store(location: &str) -> Result<Store> {
    Store::open(location, StoreOptions::default()).await.context("the store cannot be used")
}

impl ControlPlane {
    /// Opens the store and reads it; nothing is served yet. In a store without keys there is one tenant, everybody's.
    pub(crate) async fn start(
        config: &Config,
        store: Store,
        holdings: Arc<Holdings>,
        telemetry: Arc<Telemetry>,
    ) -> Result<Arc<Self>> {
        let catalog = Catalog::load(store).await.context("the store cannot be read")?;
        let folders = Folders::open(&config.store.work())?;
        let plane = Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            catalog,
            keys: Arc::default(),
            accounts: Accounts::new(config.tenant_limits(), Handle::current().metrics().num_workers()),
            holdings,
            folders,
            following: Following::default(),
            logs: Logs::default(),
            meter: Meter::new(Arc::clone(&telemetry)),
            file_limits: FileLimits { environment: false, uploads: Uploads::Placed, ..config.file_limits() },
            archive_limits: config.store.archive_limits(),
            poll: config.store.poll(),
            books: config.store.books(),
            starting: AtomicBool::new(true),
            loads: Loads::new(config.store.deploys_max()),
            pace: Pace::new(config.store.changes_per_minute_max()),
            queue: Queue::new(config.store.deploys_max(), config.store.deploys_waiting_max()),
        });
        let (shown, page) = (Arc::downgrade(&plane), Arc::downgrade(&telemetry));
        telemetry.ask(move || {
            let (Some(plane), Some(telemetry)) = (shown.upgrade(), page.upgrade()) else { return false };
            plane.show(&telemetry);
            true
        });
        plane.take_over(&plane.catalog.snapshot());
        if plane.keys.is_empty() {
            config.refuse_exposed("the store has no keys: make one with `sandmill init`")?;
            plane.add_local().await?;
        }
        Ok(plane)
    }

    /// What its operator should know of it, though it serves.
    pub(crate) fn remark(&self) -> Option<String> {
        let stale = self.catalog.staleness().map(|stale| {
            let since = stale.since.elapsed().as_secs();
            format!(
                "the store could not be read for {since} s: what was known then is served, and nothing can be changed; the log says why"
            )
        });
        let damaged = self.catalog.snapshot().damaged.len();
        let damaged = (damaged > 0).then(|| {
            format!(
                "the logs of {damaged} tenants are damaged: what was known of them is served, and `sandmill doctor` says more"
            )
        });
        let count = self.following.troubles();
        let troubled = (count > 0)
            .then(|| format!("{count} functions are not served in their current release: GET /v1/functions/… says why"));
        stale.or(damaged).or(troubled)
    }

    fn show(&self, telemetry: &Telemetry) {
        let stale = self.catalog.staleness().map_or(Duration::ZERO, |stale| stale.since.elapsed());
        telemetry.store(stale, self.following.troubles());
    }

    /// Who asks, for the edge.
    pub(crate) fn keys(&self) -> Arc<dyn Keys> {
        Arc::clone(&self.keys) as Arc<dyn Keys>
    }

    /// Has all functions answer that can; with those that cannot, the host is up all the same.
    pub(crate) async fn serve_all(&self) -> Vec<Name> {
        if timeout(START_TIME, join_all(self.settle())).await.is_err() {
            tracing::warn!(
                "not all functions are loaded after {START_TIME:?}: the host is ready without the others, which follow"
            );
        }
        self.starting.store(false, Ordering::Relaxed);
        self.holdings.names()
    }

    fn is_starting(&self) -> bool {
        self.starting.load(Ordering::Relaxed)
    }

    async fn add_local(&self) -> Result<()> {
        let local = TenantId::local();
        if self.catalog.snapshot().system.state.tenants().contains_key(&local) {
            return Ok(());
        }
        let author = Author { by: HOST.to_owned(), from: String::new(), at_ms: now_ms() };
        let change = |_: &_| Ok(SystemChange::TenantAdded { tenant: local.clone(), weight: 1, quotas: Quotas::default() });
        match self.catalog.change_system(None, &author, change).await {
            Ok(_) => Ok(self.catalog.refresh().await?),
            // Another host was first.
            Err(_) if self.catalog.snapshot().system.state.tenants().contains_key(&local) => Ok(()),
            Err(error) => bail!(error),
        }
    }

    /// What is known of a tenant; nothing of one that is not there.
    fn tenant(&self, tenant: &TenantId) -> Arc<TenantState> {
        self.catalog.snapshot().tenants.get(tenant).map(|head| Arc::clone(&head.state)).unwrap_or_default()
    }

    fn quotas(&self, tenant: &TenantId) -> Quotas {
        self.catalog.snapshot().system.state.tenants().get(tenant).map(|tenant| tenant.quotas).unwrap_or_default()
    }

    fn answered(&self, tenant: &TenantId, answer: Answer) -> Answered {
        let snapshot = self.catalog.snapshot();
        Answered { revision: snapshot.tenants.get(tenant).map_or(0, |head| head.revision.0), answer }
    }

    fn answered_by_system(&self, answer: Answer) -> Answered {
        Answered { revision: self.catalog.snapshot().system.revision.0, answer }
    }

    async fn answer(&self, asked: Asked, body: &mut dyn Body) -> Result<Answered, Refused> {
        let author = author(&asked);
        let revision = asked.revision.map(Revision);
        let begun = Instant::now();
        self.must_rest_on(revision, &asked)?;
        if asked.ask == Ask::WhoAmI {
            let answer = Answer::Identity(identity(&asked.caller));
            return Ok(match &asked.caller.tenant {
                Some(tenant) => self.answered(tenant, answer),
                None => self.answered_by_system(answer),
            });
        }
        let Some(tenant) = asked.tenant else { return self.answer_operator(asked.ask, revision, &author).await };
        if asked.ask.is_for_operators() {
            return self.answer_of_tenant(asked.ask, &tenant, revision, &author).await;
        }
        self.must_be_there(&tenant)?;
        let changes = asked.ask.changes();
        match asked.ask {
            Ask::Deploy { function, form, dry_run } => {
                let wanted = Wanted { name: (tenant.clone(), function), form, dry_run, revision, author };
                let work = |plane: Arc<Self>, received| async move { plane.deploy(received, wanted, begun).await };
                self.queue(&tenant, changes, body, work).await
            }
            Ask::AddPlugin(version) => {
                let adding = Adding { tenant: tenant.clone(), version, revision, author };
                let work = |plane: Arc<Self>, received| async move { plane.add_plugin(received, adding).await };
                self.queue(&tenant, changes, body, work).await
            }
            Ask::AddModel { version, form } => {
                let adding = Adding { tenant: tenant.clone(), version, revision, author };
                let work = |plane: Arc<Self>, received| async move { plane.add_model(received, form, adding).await };
                self.queue(&tenant, changes, body, work).await
            }
            ask => {
                if changes {
                    self.pace.begin(&tenant)?;
                }
                self.answer_tenant(ask, tenant, revision, &author).await
            }
        }
    }

    /// What rests on a state is not done in another one. What is changed is looked at again when it is changed.
    fn must_rest_on(&self, revision: Option<Revision>, asked: &Asked) -> Result<(), Refused> {
        let snapshot = self.catalog.snapshot();
        let of_tenant = asked.tenant.as_ref().filter(|_| !asked.ask.is_for_operators() && asked.ask != Ask::WhoAmI);
        let present = of_tenant.map_or(Some(snapshot.system.revision), |tenant| Some(snapshot.tenants.get(tenant)?.revision));
        match (revision, present) {
            (Some(revision), Some(present)) if revision != present => Err(faults::newer(present)),
            _ => Ok(()),
        }
    }

    fn must_be_there(&self, tenant: &TenantId) -> Result<(), Fault> {
        match self.catalog.snapshot().tenants.contains_key(tenant) {
            true => Ok(()),
            false => Err(Fault::new(Code::NotFound, format!("there is no tenant `{tenant}`"))),
        }
    }

    async fn answer_tenant(
        &self,
        ask: Ask,
        tenant: TenantId,
        revision: Option<Revision>,
        author: &Author,
    ) -> Result<Answered, Refused> {
        let answer = match ask {
            Ask::Functions => self.functions(&tenant),
            Ask::Function(function) => self.function_detail(&(tenant.clone(), function))?,
            Ask::Difference { function, from, to } => {
                let name = (tenant.clone(), function);
                let known = self.function(&name).ok_or_else(|| missing(&name.1))?;
                let (from, to) = (views::kept(&known, &name.1, from)?, views::kept(&known, &name.1, to)?);
                Answer::Difference(views::difference(&name.1, from, to))
            }
            Ask::RollBack { function, to } => self.roll_back((tenant.clone(), function), to, revision, author).await?,
            Ask::Delete(function) => self.delete((tenant.clone(), function), revision, author).await?,
            Ask::Plugins => versions::plugins(&self.tenant(&tenant)),
            Ask::Plugin(name) => versions::plugin(&self.tenant(&tenant), name)?,
            Ask::RemovePlugin(version) => self.remove_version(&tenant, UploadKind::Plugin, version, revision, author).await?,
            Ask::Models => versions::models(&self.tenant(&tenant)),
            Ask::Model(name) => versions::model(&self.tenant(&tenant), name)?,
            Ask::RemoveModel(version) => self.remove_version(&tenant, UploadKind::Model, version, revision, author).await?,
            Ask::Keys => Answer::Keys { keys: self.tenant(&tenant).keys().values().map(views::key).collect() },
            Ask::AddKey(wanted) => self.add_key(&tenant, wanted, revision, author).await?,
            Ask::RevokeKey(id) => {
                let change = |_: &_| Ok(TenantChange::KeyRevoked { id: id.clone() });
                self.catalog.change_tenant(&tenant, revision, author, change).await.map_err(refused)?;
                self.take_over(&self.catalog.snapshot());
                Answer::Gone {}
            }
            Ask::Audit { after } => {
                let log = self.catalog.store().tenant_log(&tenant);
                let entries = log.entries(Revision(after), AUDIT_MAX + 1).await.map_err(faults::store_fault)?;
                let entries: Vec<_> = entries.iter().map(|(at, entry)| views::tenant_entry(*at, entry)).collect();
                page(entries)
            }
            Ask::Logs { function, after, wait_ms } => {
                self.logs.after(&(tenant.clone(), function), after, Duration::from_millis(wait_ms)).await?
            }
            Ask::Usage { first, last } => self.usage(&tenant, first, last).await?,
            _ => return Err(Fault::new(Code::NotFound, "nothing is served at this path").into()),
        };
        Ok(self.answered(&tenant, answer))
    }

    /// Of the store, with what this host has not written yet.
    async fn usage(&self, tenant: &TenantId, first: u64, last: u64) -> Result<Answer, Refused> {
        if last.checked_sub(first).is_none_or(|hours| hours >= USAGE_HOURS_MAX) {
            let message = format!("expected a first hour and a last one, {USAGE_HOURS_MAX} at most");
            return Err(Fault::new(Code::InvalidInput, message).into());
        }
        // Its own last, so that all that it knows counts.
        self.meter.write_of(self.catalog.store(), tenant).await.map_err(faults::store_fault)?;
        let hours = self.catalog.store().usage(tenant, first, last).await.map_err(faults::store_fault)?;
        Ok(Answer::Usage { hours: hours.into_iter().map(views::hour).collect() })
    }

    /// Where a function's plugins' lines go.
    fn journal(&self, name: &Name) -> Arc<Journal> {
        self.logs.of(name, |name| self.function(name).is_some())
    }

    fn functions(&self, tenant: &TenantId) -> Answer {
        let state = self.tenant(tenant);
        let summary = |(name, function): (&FunctionName, &sandmill_catalog::store::Function)| FunctionSummary {
            function: name.clone(),
            release: function.current.number.0.get(),
            released_at_ms: function.current.at_ms,
            serving: self.holdings.current(tenant, name).is_some_and(|held| held.number() == function.current.number),
        };
        Answer::Functions { functions: state.functions().iter().map(summary).collect() }
    }

    fn function_detail(&self, name: &Name) -> Result<Answer, Fault> {
        let function = self.function(name).ok_or_else(|| missing(&name.1))?;
        let loaded: Vec<_> = self.holdings.of(&name.0, &name.1).iter().map(|held| held.number()).collect();
        Ok(Answer::Function(FunctionDetail {
            function: name.1.clone(),
            release: function.current.number.0.get(),
            releases: function.kept().map(|release| views::release(release, &loaded)).collect(),
            trouble: self.following.trouble(name),
        }))
    }

    async fn roll_back(
        &self,
        name: Name,
        to: Option<ReleaseNumber>,
        revision: Option<Revision>,
        author: &Author,
    ) -> Result<Answer, Refused> {
        let begun = Instant::now();
        let _turn = self.following.turn(&name).await;
        let before = self.function(&name).ok_or_else(|| missing(&name.1))?;
        let to = match to {
            Some(number) => views::kept(&before, &name.1, number)?.number,
            None => {
                let only = || Fault::new(Code::Conflict, format!("`{}` has no release but the one that answers", name.1));
                before.before.first().ok_or_else(only)?.number
            }
        };
        let change = |_: &_| Ok(TenantChange::RolledBack { function: name.1.clone(), to });
        self.catalog.change_tenant(&name.0, revision, author, change).await.map_err(refused)?;
        self.settle_function(&name).await;
        if let Some(why) = self.following.trouble(&name) {
            // It is written down, and other hosts may serve it: this one says why it does not.
            return Err(Fault::new(Code::NotReady, format!("it was taken back, but cannot be served here yet: {why}")).into());
        }
        let ms = (begun.elapsed().as_secs_f64() * 1e5).round() / 100.0;
        Ok(Answer::Deployed(Deployment {
            function: name.1,
            release: to.0.get(),
            previous: Some(before.current.number.0.get()),
            dry_run: false,
            steps: vec![sandmill_domain::control::StepDetail { step: sandmill_domain::control::Step::Publish, ms }],
            models: Vec::new(),
            sample: None,
        }))
    }

    async fn delete(&self, name: Name, revision: Option<Revision>, author: &Author) -> Result<Answer, Refused> {
        let _turn = self.following.turn(&name).await;
        let change = |_: &_| Ok(TenantChange::FunctionDeleted { function: name.1.clone() });
        self.catalog.change_tenant(&name.0, revision, author, change).await.map_err(refused)?;
        self.forget(&name);
        Ok(Answer::Gone {})
    }

    async fn add_key(
        &self,
        tenant: &TenantId,
        wanted: NewKey,
        revision: Option<Revision>,
        author: &Author,
    ) -> Result<Answer, Refused> {
        let (key, secret) = keys::make(wanted);
        let change = |_: &_| Ok(TenantChange::KeyAdded(key.clone()));
        self.catalog.change_tenant(tenant, revision, author, change).await.map_err(refused)?;
        self.take_over(&self.catalog.snapshot());
        Ok(Answer::KeyAdded { key: views::key(&key), secret })
    }

    /// Waits its turn, and then is not cut off when whoever asked goes away: all of it happens, or nothing.
    async fn queue<F>(
        &self,
        tenant: &TenantId,
        changes: bool,
        body: &mut dyn Body,
        work: impl FnOnce(Arc<Self>, Received) -> F,
    ) -> Result<Answered, Refused>
    where
        F: Future<Output = Result<Answered, Refused>> + Send + 'static,
    {
        let waiting = self.queue.enter(tenant)?;
        if changes {
            self.pace.begin(tenant)?;
        }
        let received = self.receive(body, self.quotas(tenant).upload_bytes_max).await?;
        let working = self.queue.work(waiting).await;
        let Some(plane) = self.this.upgrade() else { return Err(Fault::new(Code::NotReady, "the host stops").into()) };
        let work = work(plane, received);
        let done = tokio::spawn(async move {
            let done = work.await;
            drop(working);
            done
        });
        done.await.unwrap_or_else(|error| Err(Fault::new(Code::Internal, "the work at it broke off").because(error).into()))
    }
}

impl Control for ControlPlane {
    fn ask<'a>(&'a self, asked: Asked, body: &'a mut dyn Body) -> BoxFuture<'a, Result<Answered, Refused>> {
        Box::pin(self.answer(asked, body))
    }
}

fn author(asked: &Asked) -> Author {
    let from = asked.caller.from.map(|address| address.to_string()).unwrap_or_default();
    Author { by: asked.caller.key.to_string(), from, at_ms: now_ms() }
}

fn identity(caller: &sandmill_domain::Caller) -> Identity {
    Identity { key: caller.key.to_string(), tenant: caller.tenant.clone(), scopes: caller.scopes.clone() }
}

fn missing(function: &FunctionName) -> Fault {
    Fault::new(Code::NotFound, format!("no function `{function}`"))
}

/// One more than an answer tells was asked for.
fn page(mut entries: Vec<sandmill_domain::control::AuditEntry>) -> Answer {
    let more = entries.len() > AUDIT_MAX;
    entries.truncate(AUDIT_MAX);
    Answer::Audit { entries, more }
}

#[cfg(test)]
mod tests {
    use sandmill_domain::control::AuditEntry;

    use super::*;

    #[test]
    fn an_audit_of_more_than_a_page_says_that_there_is_more() {
        let entry = |revision| {
            let empty = String::new;
            AuditEntry { revision, at_ms: 0, by: empty(), from: empty(), what: empty(), of: empty() }
        };
        for (there, told) in [(0, (0, false)), (AUDIT_MAX, (AUDIT_MAX, false)), (AUDIT_MAX + 1, (AUDIT_MAX, true))] {
            let Answer::Audit { entries, more } = page((0..there as u64).map(entry).collect()) else { panic!("an audit") };
            assert_eq!((entries.len(), more), told);
        }
    }
}
