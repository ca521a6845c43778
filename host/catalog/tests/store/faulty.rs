//! A store in memory that fails as it is told: before or after the effect, by silence, by lies, by lists that lag.

use std::fmt;
use std::future::pending;
use std::io;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use object_store::client::{HttpError, HttpErrorKind};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};

/// What is asked of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Put,
    Get,
    List,
    Delete,
    Part,
    Complete,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// None, so that a later rule holds only for what comes after.
    Pass,
    /// An error, and nothing happened.
    Before,
    /// An error, although it happened.
    After,
    /// Nobody was there to be asked.
    Unsent,
    /// No answer ever, and nothing happened.
    SilentBefore,
    /// No answer ever, although it happened.
    SilentAfter,
    /// It happens when the next operation comes, long after nobody waits for it.
    Late,
    /// Success, and nothing happened.
    Lie,
    /// An object that was there is replaced.
    Replace,
    /// It is said that there is an object already, and there is none.
    SayExists,
    /// Not without other rights.
    Refuse,
    /// The disk is full.
    Full,
    /// The medium fails, after the object can be seen.
    Broken,
    /// Some other bytes.
    Garble,
    /// The list lacks everything.
    Lag,
}

/// Faults to come: for operations of a kind on objects whose names contain a text, so many times.
type Rules = Arc<Mutex<Vec<(Op, &'static str, Fault, usize)>>>;

#[derive(Debug, Default)]
pub(crate) struct Faulty {
    inner: Arc<InMemory>,
    rules: Rules,
    late: Mutex<Vec<(Path, PutPayload)>>,
}

/// More often than any test asks.
pub(crate) const ALWAYS: usize = usize::MAX;

impl Faulty {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn inject(&self, op: Op, part: &'static str, fault: Fault, times: usize) {
        self.rules.lock().expect("no panic").push((op, part, fault, times));
    }

    pub(crate) fn heal(&self) {
        self.rules.lock().expect("no panic").clear();
    }

    /// What is really there.
    pub(crate) fn inner(&self) -> Arc<InMemory> {
        self.inner.clone()
    }

    fn fault(&self, op: Op, path: &str) -> Option<Fault> {
        take(&self.rules, op, path)
    }

    async fn arrive(&self) {
        let late = std::mem::take(&mut *self.late.lock().expect("no panic"));
        for (path, payload) in late {
            let _ = self.inner.put_opts(&path, payload, PutMode::Create.into()).await;
        }
    }
}

fn take(rules: &Rules, op: Op, path: &str) -> Option<Fault> {
    let mut rules = rules.lock().expect("no panic");
    let rule = rules.iter_mut().find(|(of, part, _, times)| *of == op && path.contains(part) && *times > 0)?;
    rule.3 -= 1;
    Some(rule.2).filter(|fault| *fault != Fault::Pass)
}

fn error(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Generic { store: "faulty", source: source.into() }
}

/// The fault as an error; silence never ends.
async fn fail<T>(fault: Fault) -> Result<T> {
    Err(match fault {
        Fault::SilentBefore | Fault::SilentAfter | Fault::Late => pending().await,
        Fault::Full => error(io::Error::from(io::ErrorKind::StorageFull)),
        Fault::Broken => error(io::Error::other("the medium fails")),
        Fault::Unsent => error(HttpError::new(HttpErrorKind::Connect, io::Error::from(io::ErrorKind::ConnectionRefused))),
        Fault::Refuse => Error::PermissionDenied { path: String::new(), source: "no".into() },
        Fault::SayExists => Error::AlreadyExists { path: String::new(), source: "no".into() },
        _ => error("500, as it were"),
    })
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, path: &Path, payload: PutPayload, mut options: PutOptions) -> Result<PutResult> {
        self.arrive().await;
        let fault = self.fault(Op::Put, path.as_ref());
        match fault {
            Some(Fault::Lie) => return Ok(PutResult { e_tag: None, version: None, extensions: Default::default() }),
            Some(Fault::Late) => self.late.lock().expect("no panic").push((path.clone(), payload.clone())),
            _ => {}
        }
        if fault == Some(Fault::Replace) {
            options.mode = PutMode::Overwrite;
        }
        match fault {
            None | Some(Fault::Replace) => self.inner.put_opts(path, payload, options).await,
            Some(after @ (Fault::After | Fault::SilentAfter | Fault::Broken)) => {
                self.inner.put_opts(path, payload, options).await?;
                fail(after).await
            }
            Some(fault) => fail(fault).await,
        }
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let inner = self.inner.put_multipart_opts(path, options).await?;
        Ok(Box::new(FaultyUpload { inner, rules: self.rules.clone(), path: path.to_string() }))
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.arrive().await;
        match self.fault(Op::Get, path.as_ref()) {
            None => self.inner.get_opts(path, options).await,
            Some(Fault::Garble) => {
                let found = self.inner.get_opts(path, options.clone()).await?;
                let other = vec![b'?'; usize::try_from(found.meta.size).expect("small")];
                let garbled = InMemory::new();
                garbled.put_opts(path, other.into(), PutOptions::default()).await?;
                garbled.get_opts(path, options).await
            }
            Some(fault) => fail(fault).await,
        }
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (inner, rules) = (self.inner.clone(), self.rules.clone());
        let delete = move |path: Path| {
            let (inner, rules) = (inner.clone(), rules.clone());
            async move {
                match take(&rules, Op::Delete, path.as_ref()) {
                    None => object_store::ObjectStoreExt::delete(&*inner, &path).await.map(|()| path),
                    Some(fault) => fail(fault).await,
                }
            }
        };
        paths.and_then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.fault(Op::List, prefix.map_or("", |prefix| prefix.as_ref())) {
            None => self.inner.list(prefix),
            Some(Fault::Lag) => futures_util::stream::empty().boxed(),
            Some(fault) => futures_util::stream::once(fail(fault)).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct FaultyUpload {
    inner: Box<dyn MultipartUpload>,
    rules: Rules,
    path: String,
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        match take(&self.rules, Op::Part, &self.path) {
            None => self.inner.put_part(data),
            // The part is lost, and the whole is shorter.
            Some(Fault::Lie) => Box::pin(async { Ok(()) }),
            Some(fault) => Box::pin(fail(fault)),
        }
    }

    async fn complete(&mut self) -> Result<PutResult> {
        match take(&self.rules, Op::Complete, &self.path) {
            None => self.inner.complete().await,
            Some(after @ (Fault::After | Fault::SilentAfter)) => {
                self.inner.complete().await?;
                fail(after).await
            }
            Some(fault) => fail(fault).await,
        }
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}
