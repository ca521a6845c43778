//! A listener's certificate while it serves: its files are looked at every now and then, and what is new and good in them is
//! shown to clients from then on. Knows no sockets.

use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::pki_types::UnixTime;
use sandmill_telemetry::Telemetry;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::options::TlsFiles;
use crate::tls::{Identity, Pair, TlsError};

/// What one listener proves itself with, now.
pub(crate) struct Tls {
    files: TlsFiles,
    /// The setting that it listens by.
    listener: &'static str,
    identity: ArcSwap<Identity>,
    seen: Mutex<Seen>,
}

impl Tls {
    /// Reads and checks `files`. Blocks.
    pub(crate) fn open(files: TlsFiles, listener: &'static str, telemetry: &Telemetry) -> Result<Arc<Self>, TlsError> {
        let pair = Pair::read(&files, listener)?;
        let identity = Identity::new(&pair, &files, listener, UnixTime::now())?;
        telemetry.certificate_taken(listener, identity.expiry);
        let (identity, seen) = (ArcSwap::from_pointee(identity), Mutex::new(Seen::new(pair)));
        Ok(Arc::new(Self { files, listener, identity, seen }))
    }

    /// What a connection that comes now is shown.
    pub(crate) fn identity(&self) -> Arc<Identity> {
        self.identity.load_full()
    }

    /// The setting that it listens by.
    pub(crate) fn listener(&self) -> &'static str {
        self.listener
    }

    /// Looks at the files once. Blocks.
    fn look(&self, telemetry: &Telemetry) {
        let look = Pair::read(&self.files, self.listener);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match seen.after(look, |pair| Identity::new(pair, &self.files, self.listener, UnixTime::now())) {
            News::None => {}
            News::Taken(identity) => {
                telemetry.certificate_taken(self.listener, identity.expiry);
                self.identity.store(Arc::new(identity));
                let path = self.files.certificate.display();
                tracing::info!(listener = self.listener, certificate = %path, "took a new certificate");
            }
            News::Refused(error) => {
                telemetry.certificate_refused(self.listener);
                tracing::warn!(listener = self.listener, %error, "kept the certificate: the one in its files now is wrong");
            }
        }
    }
}

/// Looks at the files of `tls` each `interval`, without end.
pub(crate) async fn watch(tls: Option<Arc<Tls>>, interval: Duration, telemetry: &Arc<Telemetry>) {
    let Some(tls) = tls else { return pending().await };
    loop {
        sleep(interval).await;
        let (tls, telemetry) = (Arc::clone(&tls), Arc::clone(telemetry));
        // A panic there is as good as a look that found nothing.
        let _found_nothing = spawn_blocking(move || tls.look(&telemetry)).await;
    }
}

/// What was found in the files so far. Their contents are compared, which are a few KiB: a file's time of change is too coarse
/// where two changes follow each other, and says nothing where a link is set to another file.
struct Seen {
    /// What is shown.
    good: Pair,
    /// What was found since and is wrong, and whether that was said.
    wrong: Option<(Look, bool)>,
}

/// The files' contents, or why there are none.
type Look = Result<Pair, String>;

/// What follows from one look at the files.
enum News<T, E> {
    None,
    Taken(T),
    Refused(E),
}

impl Seen {
    fn new(good: Pair) -> Self {
        Self { good, wrong: None }
    }

    /// The files were found like this. Files that are wrong may be about to be replaced, one after the other: nothing is said
    /// before they are found the same way a second time, and nothing after.
    fn after<T>(&mut self, look: Result<Pair, TlsError>, check: impl FnOnce(&Pair) -> Result<T, TlsError>) -> News<T, TlsError> {
        if look.as_ref().is_ok_and(|pair| *pair == self.good) {
            self.wrong = None;
            return News::None;
        }
        let key = look.as_ref().map(Pair::clone).map_err(ToString::to_string);
        let known = self.wrong.as_ref().filter(|(wrong, _)| *wrong == key).map(|(_, said)| *said);
        // Also what was refused is looked at again: it may have become valid meanwhile.
        match look.and_then(|pair| check(&pair).map(|identity| (pair, identity))) {
            Ok((pair, identity)) => {
                *self = Self::new(pair);
                News::Taken(identity)
            }
            Err(error) => {
                self.wrong = Some((key, known.is_some()));
                if known == Some(false) { News::Refused(error) } else { News::None }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong() -> TlsError {
        let files = TlsFiles { certificate: "/nothing".into(), key: "/nothing".into() };
        Pair::read(&files, "listen").err().expect("there is no such file")
    }

    /// What is said of looks that find these certificates and keys, which are a pair if they are alike, or are not there, `!`:
    /// `.` is nothing, `x` a refusal, and else the name of what is taken.
    fn said(looks: &str) -> String {
        let mut seen = Seen::new(Pair::of("a", "a"));
        let said = looks.split(' ').map(|look| {
            let (certificate, key) = look.split_at(1);
            let found = if look.contains('!') { Err(wrong()) } else { Ok(Pair::of(certificate, key)) };
            match seen.after(found, |_pair| if certificate == key { Ok(certificate) } else { Err(wrong()) }) {
                News::None => ".",
                News::Taken(name) => name,
                News::Refused(_) => "x",
            }
        });
        said.collect()
    }

    #[test]
    fn a_pair_is_taken_when_it_is_whole_and_refused_when_it_stays_wrong() {
        for (looks, expected) in [
            ("aa aa aa", "..."),
            ("bb bb", "b."),
            ("aa ba bb bb", "..b."),
            ("ba ba ba ba", ".x.."),
            ("ba ba ba bb", ".x.b"),
            ("ba ca da", "..."),
            ("ba ba ca ca ca", ".x.x."),
            ("a! a! a! aa a! a!", ".x...x"),
            ("a! bb", ".b"),
            ("ba ba aa ba ba", ".x..x"),
            ("bb aa bb", "bab"),
        ] {
            assert_eq!(said(looks), expected, "{looks}");
        }
    }

    #[test]
    fn what_was_refused_is_taken_once_it_is_valid() {
        let mut seen = Seen::new(Pair::of("a", "a"));
        for _ in 0..3 {
            seen.after(Ok(Pair::of("b", "b")), |_| Err::<(), _>(wrong()));
        }
        assert!(matches!(seen.after(Ok(Pair::of("b", "b")), |_| Ok(())), News::Taken(())));
    }
}
