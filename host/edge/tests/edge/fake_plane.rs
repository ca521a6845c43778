//! A control plane with two tenants, `acme` and `other`, whose functions do what their names say. It keeps nothing that it is
//! told: it answers as the tables below have it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use sandmill_domain::control::{
    Answer, Answered, Ask, Asked, AuditEntry, Deployment, Difference, FileChange, FileDetail, FunctionDetail, FunctionSummary,
    HourUsage, Identity, InitOutcome, KeyDetail, MeasuredDetail, ModelAbout, ModelAdded, ModelDetail, ModelSummary, ModelVersion,
    PluginAbout, PluginAdded, PluginDifference, PluginSummary, PluginVersion, Refused, ReleaseDetail, Step, StepDetail,
    TenantDetail, TenantTerms, TensorDetail, Version, VersionSummary,
};
use sandmill_domain::ports::{Body, BoxFuture, Control};
use sandmill_domain::{Advice, Caller, Code, Fault, FunctionName, JournalLine, Label, Level, Scope, TenantId, Usage};

/// The state that everything is in.
pub(crate) const REVISION: u64 = 41;

/// What there is: a tenant's functions and keys.
const THINGS: [(&str, &[&str], &[&str]); 2] = [("acme", &["digits"], &["k1"]), ("other", &["theirs", "digits"], &["k9"])];

/// The keys of operators.
const OPERATORS_KEYS: &[&str] = &["root"];

/// What the tests see.
#[derive(Default)]
pub(crate) struct FakePlane {
    /// The last thing asked.
    pub(crate) last: Mutex<Option<Asked>>,
    /// How many things were asked.
    pub(crate) asked: AtomicUsize,
    /// Asks that are under way.
    pub(crate) running: AtomicUsize,
    /// Bytes of bodies that were handed over.
    pub(crate) received: AtomicU64,
    /// How the last body ended.
    pub(crate) body: Mutex<Option<Result<(), Code>>>,
}

impl FakePlane {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::SeqCst)
    }

    pub(crate) fn last(&self) -> Asked {
        self.last.lock().unwrap().take().expect("something was asked")
    }

    async fn read(&self, body: &mut dyn Body) -> Result<(), Fault> {
        let result = async {
            while let Some(piece) = body.next().await? {
                assert!(!piece.is_empty() && piece.len() <= 256 << 10, "a piece of {} bytes", piece.len());
                self.received.fetch_add(piece.len() as u64, Ordering::SeqCst);
            }
            Ok(())
        };
        let result: Result<(), Fault> = result.await;
        *self.body.lock().unwrap() = Some(result.as_ref().copied().map_err(|fault| fault.code));
        if result.is_err() {
            assert!(body.next().await.is_err(), "what is broken stays so");
        }
        result
    }
}

struct Running<'a>(&'a FakePlane);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Control for FakePlane {
    fn ask<'a>(&'a self, asked: Asked, body: &'a mut dyn Body) -> BoxFuture<'a, Result<Answered, Refused>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.running.fetch_add(1, Ordering::SeqCst);
        *self.last.lock().unwrap() = Some(asked.clone());
        Box::pin(async move {
            let _running = Running(self);
            check(&asked);
            if asked.revision.is_some_and(|revision| revision != REVISION) {
                let fault = Fault::new(Code::Conflict, "something has changed meanwhile");
                return Err(Refused { fault, step: None, revision: Some(REVISION) });
            }
            if let Ask::Deploy { function, .. } = &asked.ask {
                before(function)?;
            }
            if matches!(asked.ask, Ask::Deploy { .. } | Ask::AddPlugin(_) | Ask::AddModel { .. }) {
                self.read(body).await.map_err(|fault| Refused::from(fault).at(Step::Receive))?;
            } else {
                assert!(body.next().await.unwrap().is_none(), "only uploads have a body");
            }
            answer(&asked).map(|answer| Answered { revision: REVISION, answer })
        })
    }
}

/// What the edge has to have seen to.
fn check(asked: &Asked) {
    let Asked { caller, tenant, ask, .. } = asked;
    assert!(ask.scope().is_none_or(|scope| caller.check(scope).is_ok()), "the scope was checked");
    if let (Some(own), Some(tenant)) = (&caller.tenant, tenant) {
        assert_eq!(own, tenant, "nobody reaches another's things");
    }
    assert!(!ask.is_for_operators() || caller.tenant.is_none(), "operators alone ask that");
    assert!(caller.from.is_some(), "it is known where it comes from");
}

/// What goes wrong with some before their body is read.
fn before(function: &FunctionName) -> Result<(), Refused> {
    match function.as_str() {
        "panics" => panic!("no release today"),
        "refuses" => Err(Fault::new(Code::TooManyRequests, "too many functions").into()),
        _ => Ok(()),
    }
}

fn things(tenant: &TenantId) -> Result<(&'static [&'static str], &'static [&'static str]), Fault> {
    let known = THINGS.iter().find(|(name, _, _)| *name == tenant.as_str());
    known.map(|(_, functions, keys)| (*functions, *keys)).ok_or_else(|| missing("tenant", tenant.as_str()))
}

fn missing(what: &str, name: &str) -> Fault {
    Fault::new(Code::NotFound, format!("no {what} `{name}`"))
}

fn find(of: &[&str], what: &str, name: &str) -> Result<(), Fault> {
    if of.contains(&name) { Ok(()) } else { Err(missing(what, name)) }
}

fn answer(asked: &Asked) -> Result<Answer, Refused> {
    let (functions, keys) = match &asked.tenant {
        Some(tenant) if !matches!(asked.ask, Ask::AddTenant(_)) => things(tenant)?,
        Some(_) => (&[][..], &[][..]),
        None => (&[][..], OPERATORS_KEYS),
    };
    Ok(match &asked.ask {
        Ask::WhoAmI => identity(&asked.caller),
        Ask::Functions => Answer::Functions { functions: functions.iter().map(|name| summary(name)).collect() },
        Ask::Function(name) => {
            find(functions, "function", name.as_str())?;
            Answer::Function(detail(name))
        }
        Ask::Deploy { function, dry_run, .. } => {
            fails(function)?;
            let previous = functions.contains(&function.as_str()).then_some(2);
            Answer::Deployed(deployment(function, previous, *dry_run))
        }
        Ask::RollBack { function, to } => {
            find(functions, "function", function.as_str())?;
            let release = to.map_or(1, |to| to.0.get());
            find(&["1", "2"], "release", &release.to_string())?;
            Answer::Deployed(Deployment { release, ..deployment(function, Some(2), false) })
        }
        Ask::Difference { function, from, to } => {
            find(functions, "function", function.as_str())?;
            for release in [from, to] {
                find(&["1", "2"], "release", &release.to_string())?;
            }
            difference(function, from.0.get(), to.0.get())
        }
        Ask::Delete(_) | Ask::RemoveTenant => Answer::Gone {},
        Ask::Plugins => Answer::Plugins { plugins: vec![PluginSummary { plugin: label("resize"), versions: vec![listed()] }] },
        Ask::Plugin(name) => {
            find(&["resize"], "plugin", name.as_str())?;
            Answer::Plugin { plugin: name.clone(), versions: vec![plugin_version("1")] }
        }
        Ask::AddPlugin(version) => {
            let added = is_new("resize", version)?;
            Answer::PluginAdded(Box::new(plugin_added(version, added)))
        }
        Ask::RemovePlugin(version) => {
            find(&["resize"], "plugin", version.name.as_str())?;
            Answer::Gone {}
        }
        Ask::Models => Answer::Models { models: vec![ModelSummary { model: label("digits"), versions: vec![listed()] }] },
        Ask::Model(name) => {
            find(&["digits"], "model", name.as_str())?;
            Answer::Model { model: name.clone(), versions: vec![model_version("1")] }
        }
        Ask::AddModel { version, .. } => {
            let added = is_new("digits", version)?;
            let (model, version) = (version.name.clone(), model_version(version.version.as_str()));
            Answer::ModelAdded(Box::new(ModelAdded { model, version, added }))
        }
        Ask::RemoveModel(version) => {
            find(&["digits"], "model", version.name.as_str())?;
            Answer::Gone {}
        }
        Ask::Keys => Answer::Keys { keys: keys.iter().map(|id| key(id, &[Scope::Invoke], None)).collect() },
        Ask::AddKey(new) => {
            let expires_at_ms = new.expires_in_seconds.map(|seconds| seconds * 1000);
            let key = KeyDetail { label: new.label.clone(), ..key("k2", &new.scopes, expires_at_ms) };
            Answer::KeyAdded { key, secret: "told-once".to_owned() }
        }
        Ask::RevokeKey(id) => {
            find(keys, "key", id.as_str())?;
            Answer::Gone {}
        }
        Ask::Audit { after } => audit(*after),
        Ask::Usage { first, .. } => usage(*first),
        Ask::Logs { function, after, .. } => {
            find(functions, "function", function.as_str())?;
            let text = "hello".to_owned();
            Answer::Logs { lines: vec![JournalLine { number: after + 1, at_ms: 1_700_000_000_000, level: Level::Warn, text }] }
        }
        Ask::Tenants => {
            let tenants = THINGS.iter().map(|(name, ..)| tenant(&TenantId::new(name).unwrap(), TenantTerms::default()));
            Answer::Tenants { tenants: tenants.collect() }
        }
        Ask::AddTenant(terms) | Ask::ChangeTenant(terms) => Answer::Tenant(tenant(asked.tenant.as_ref().unwrap(), *terms)),
    })
}

/// What goes wrong with some when their body is there.
fn fails(function: &FunctionName) -> Result<(), Refused> {
    let (fault, step) = match function.as_str() {
        "full" => (Fault::new(Code::StorageFull, "the tenant's room is used up"), Step::Store),
        "broken" => (Fault::new(Code::Internal, "the host failed").because("a secret of the host"), Step::Load),
        "slow" => {
            (Fault::new(Code::Overloaded, "later").advising(Advice::RetryAfter(std::time::Duration::from_secs(7))), Step::Load)
        }
        _ => return Ok(()),
    };
    Err(Refused::from(fault).at(step))
}

fn identity(caller: &Caller) -> Answer {
    let (key, tenant, scopes) = (caller.key.to_string(), caller.tenant.clone(), caller.scopes.clone());
    Answer::Identity(Identity { key, tenant, scopes })
}

fn summary(name: &str) -> FunctionSummary {
    FunctionSummary { function: FunctionName::new(name).unwrap(), release: 2, released_at_ms: 1_700_000_000_000, serving: true }
}

fn file() -> FileDetail {
    FileDetail { sha256: "0".repeat(64), bytes: 7 }
}

fn detail(function: &FunctionName) -> FunctionDetail {
    let release = |release| ReleaseDetail {
        release,
        released_at_ms: 1_700_000_000_000,
        by: "k1".to_owned(),
        loaded: release == 2,
        manifest: "name = 'digits'\n".to_owned(),
        files: BTreeMap::from([("model.onnx".to_owned(), file())]),
    };
    let trouble = Some("it does not load".to_owned());
    FunctionDetail { function: function.clone(), release: 2, releases: vec![release(2), release(1)], trouble }
}

fn deployment(function: &FunctionName, previous: Option<u64>, dry_run: bool) -> Deployment {
    let steps = [Step::Receive, Step::Read, Step::Load, Step::Store, Step::Publish];
    let model = |why_no_batches| ModelDetail {
        kept: false,
        model: "model".to_owned(),
        provider: "cpu".to_owned(),
        batch_rows_max: 16,
        why_no_batches,
    };
    Deployment {
        function: function.clone(),
        release: previous.unwrap_or(0) + 1,
        previous,
        dry_run,
        steps: steps.map(|step| StepDetail { step, ms: 1.5 }).to_vec(),
        models: vec![model(None), model(Some("rows depend on one another".to_owned()))],
        sample: previous.map(|_| 200),
    }
}

fn difference(function: &FunctionName, from: u64, to: u64) -> Answer {
    let changes =
        [("came", FileChange { before: None, after: Some(file()) }), ("went", FileChange { before: Some(file()), after: None })];
    let files = changes.map(|(path, change)| (path.to_owned(), change)).into();
    let manifest = vec!["-name = 'a'".to_owned(), "+name = 'b'".to_owned()];
    Answer::Difference(Difference { function: function.clone(), from, to, manifest, files })
}

fn label(text: &str) -> Label {
    Label::new(text).unwrap()
}

/// Version 1 of what is there has these bytes, and version 2 others.
fn is_new(known: &str, version: &Version) -> Result<bool, Fault> {
    match (version.name.as_str() == known, version.version.as_str()) {
        (true, "1") => Ok(false),
        (true, "2") => Err(Fault::new(Code::Conflict, "version 2 has other bytes")),
        _ => Ok(true),
    }
}

fn listed() -> VersionSummary {
    VersionSummary { version: label("1"), added_at_ms: 1_700_000_000_000, file: file() }
}

fn plugin_version(version: &str) -> PluginVersion {
    let about = PluginAbout {
        shape: vec!["preprocess".to_owned(), "postprocess".to_owned()],
        init: InitOutcome::Failed,
        why_no_init: Some("it wants its words".to_owned()),
        grants: vec!["wall_clock".to_owned()],
        imports: vec!["wasi:clocks/wall-clock@0.2.6".to_owned()],
        exports: vec!["sandmill:plugin/preprocess@0.1.0".to_owned()],
    };
    let used_by = vec![FunctionName::new("digits").unwrap()];
    PluginVersion { version: label(version), added_at_ms: 1_700_000_000_000, file: file(), about, used_by }
}

fn plugin_added(version: &Version, added: bool) -> PluginAdded {
    let difference = PluginDifference {
        since: label("0"),
        imports_came: vec!["wasi:clocks/wall-clock@0.2.6".to_owned()],
        imports_went: Vec::new(),
        exports_came: Vec::new(),
        exports_went: Vec::new(),
    };
    let (plugin, difference) = (version.name.clone(), added.then_some(difference));
    PluginAdded { plugin, version: plugin_version(version.version.as_str()), added, difference }
}

fn model_version(version: &str) -> ModelVersion {
    let tensor = TensorDetail {
        name: "x".to_owned(),
        datatype: "FP32".to_owned(),
        shape: vec![-1, -1, 64],
        axes: vec![Some("batch".to_owned()), None, None],
    };
    let measured = MeasuredDetail { load_ms: 1.5, run_ms: 0.25, memory_bytes: 1 << 20, batch_rows_max: 8, why_no_batches: None };
    let about = ModelAbout { inputs: vec![tensor.clone()], outputs: vec![tensor], tensors_left_out: 0, measured: Some(measured) };
    let files = BTreeMap::from([("model.onnx".to_owned(), file())]);
    ModelVersion { version: label(version), added_at_ms: 1_700_000_000_000, files, about, used_by: Vec::new() }
}

fn key(id: &str, scopes: &[Scope], expires_at_ms: Option<u64>) -> KeyDetail {
    KeyDetail { key: id.to_owned(), label: "for the shop".to_owned(), scopes: scopes.to_vec(), expires_at_ms }
}

fn usage(first: u64) -> Answer {
    let used = Usage { requests: 7, plugin_us: 3, ..Usage::default() };
    let functions = BTreeMap::from([(FunctionName::new("digits").unwrap(), used)]);
    Answer::Usage { hours: vec![HourUsage { from_ms: first * 3_600_000, functions }] }
}

fn audit(after: u64) -> Answer {
    let entry = AuditEntry {
        revision: after + 1,
        at_ms: 1_700_000_000_000,
        by: "k1".to_owned(),
        from: "127.0.0.1".to_owned(),
        what: "released".to_owned(),
        of: "digits".to_owned(),
    };
    Answer::Audit { entries: vec![entry], more: after == 0 }
}

fn tenant(name: &TenantId, terms: TenantTerms) -> TenantDetail {
    TenantDetail { tenant: name.clone(), terms, functions: 1 }
}
