//! `[tls]`: what each listener proves itself with, and how often its files are looked at.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sandmill_catalog::Count;
use sandmill_edge::TlsFiles;
use serde::Deserialize;

use crate::config::Millis;

/// `[tls]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Tls {
    listen: Option<Files>,
    control: Option<Files>,
    interval_ms: Option<Millis>,
}

/// `{ certificate = "…", key = "…" }`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Tls {
    /// Its paths are relative to this folder.
    pub(crate) fn within(&mut self, folder: &Path) {
        for files in [&mut self.listen, &mut self.control].into_iter().flatten() {
            files.certificate = folder.join(&files.certificate);
            files.key = folder.join(&files.key);
        }
    }

    /// Of the listener for functions; none for plain HTTP.
    pub(crate) fn listen(&self) -> Option<TlsFiles> {
        self.listen.as_ref().map(Files::options)
    }

    /// Of the control listener; none for plain HTTP.
    pub(crate) fn control(&self) -> Option<TlsFiles> {
        self.control.as_ref().map(Files::options)
    }

    pub(crate) fn interval(&self) -> Duration {
        self.interval_ms.map_or(TlsFiles::INTERVAL, Count::as_millis)
    }
}

impl Files {
    fn options(&self) -> TlsFiles {
        TlsFiles { certificate: self.certificate.clone(), key: self.key.clone() }
    }
}

#[cfg(test)]
mod tests {
    use sandmill_catalog::read_document;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Page {
        tls: Tls,
    }

    #[test]
    fn each_listener_has_its_own_files() {
        let text = "[tls]\ninterval_ms = 500\nlisten = { certificate = 'a.crt', key = '/b.key' }";
        let mut page: Page = read_document(text).expect("good");
        page.tls.within(Path::new("/etc"));
        let files = TlsFiles { certificate: "/etc/a.crt".into(), key: "/b.key".into() };
        assert_eq!((page.tls.listen(), page.tls.control()), (Some(files), None));
        assert_eq!(page.tls.interval(), Duration::from_millis(500));
        for (text, expected) in [
            ("[tls.control]\ncertificate = 'a.crt'", "tls.control.key: this key is missing"),
            ("[tls.listen]\ncertificate = 'a.crt'\nkey = 'a.key'\nca = 'b.crt'", "tls.listen.ca: unknown key"),
        ] {
            let problems = read_document::<Page>(text).expect_err("bad");
            assert!(problems[0].to_string().contains(expected), "{problems:?}");
        }
    }
}
