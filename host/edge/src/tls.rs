//! A listener's certificate and key: read from their files, checked, and made into what a handshake needs. Knows no sockets.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, InconsistentKeys, RootCertStore, ServerConfig};
use thiserror::Error;

use crate::options::TlsFiles;

/// Far more than a chain of certificates, or a key.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Of RFC 7301: what clients may ask for within TLS. Clients that do not ask speak HTTP/1.
pub(crate) const ALPN_HTTP2: &[u8] = b"h2";
const ALPN_HTTP1: &[u8] = b"http/1.1";

/// A listener cannot speak TLS with what lies in its files.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {file}: {source}; {}", remedy(.source))]
    Unreadable {
        /// Which.
        file: TlsFile,
        /// What the system says.
        source: io::Error,
    },
    /// A file is no certificate and no key for its size alone.
    #[error("{file} has more than {FILE_BYTES_MAX} bytes, as no certificate and no key has; name the right file")]
    TooLarge {
        /// Which.
        file: TlsFile,
    },
    /// A file's PEM is broken.
    #[error("{file} is no whole PEM: {source}; write it anew from where it came")]
    Broken {
        /// Which.
        file: TlsFile,
        /// Where it breaks.
        source: pem::Error,
    },
    /// No certificate is in its file.
    #[error("there is no certificate in {file}; it must be PEM, with `BEGIN CERTIFICATE`, the server's own certificate first")]
    NoCertificate {
        /// Which.
        file: TlsFile,
    },
    /// No key is in its file.
    #[error(
        "there is no private key in {file}; it must be PEM, with `BEGIN PRIVATE KEY`, `BEGIN EC PRIVATE KEY` or \
         `BEGIN RSA PRIVATE KEY`, and if it is encrypted, it must be decrypted before"
    )]
    NoKey {
        /// Which.
        file: TlsFile,
    },
    /// A certificate that is none, or of a kind that is not spoken.
    #[error("the certificate in {file} cannot be used: {source}; have another one issued")]
    BadCertificate {
        /// Its file.
        file: TlsFile,
        /// What is wrong.
        source: rustls::Error,
    },
    /// A key that is none, or of a kind that is not spoken.
    #[error(
        "the private key in {file} cannot be used: {source}; make an ECDSA key on P-256, Ed25519, or RSA of 2048 bits or more"
    )]
    BadKey {
        /// Its file.
        file: TlsFile,
        /// What is wrong.
        source: rustls::Error,
    },
    /// Two files that do not belong together.
    #[error("{key} is not the key of the certificate in {certificate}; replace both together")]
    Mismatch {
        /// The certificate's file.
        certificate: TlsFile,
        /// The key's file.
        key: TlsFile,
    },
    /// No client would accept it any more.
    #[error("the certificate in {file} has expired, {} ago; renew it, or set this machine's clock right", span(.ago))]
    Expired {
        /// Its file.
        file: TlsFile,
        /// For how long.
        ago: Duration,
    },
    /// No client would accept it yet.
    #[error("the certificate in {file} is not valid before {} have passed; wait, or set this machine's clock right", span(.wait))]
    Early {
        /// Its file.
        file: TlsFile,
        /// Until then.
        wait: Duration,
    },
}

/// A file of a listener's TLS, as messages name it: its path and the setting that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFile {
    path: Box<Path>,
    listener: &'static str,
    setting: &'static str,
}

impl fmt::Display for TlsFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (`[tls.{}] {}`)", self.path.display(), self.listener, self.setting)
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::PermissionDenied => "let the user that the server runs as read it",
        _ => "put it there, or name the file where it is",
    }
}

/// So that nobody has to count seconds.
fn span(time: &Duration) -> String {
    let hours = time.as_secs() / 3600;
    match hours {
        0 => format!("{} seconds", time.as_secs()),
        1..48 => format!("{hours} hours"),
        _ => format!("{} days", hours / 24),
    }
}

/// The contents of a listener's two files.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Pair {
    /// Reads both files, which messages name by the `listener`'s setting. Blocks.
    pub(crate) fn read(files: &TlsFiles, listener: &'static str) -> Result<Self, TlsError> {
        let [certificate, key] = names(files, listener);
        Ok(Self { certificate: read(certificate)?, key: read(key)? })
    }
}

/// What a listener's handshakes need. One that is replaced lives on in the connections that began with it.
pub(crate) struct Identity {
    /// For connections that are served.
    pub(crate) config: Arc<ServerConfig>,
    /// For connections that are told why they are not, in HTTP/1.
    pub(crate) refusing: Arc<ServerConfig>,
    /// When its certificate expires, since 1970.
    pub(crate) expiry: Duration,
}

impl Identity {
    /// Checks that the contents of `files` are what a client would accept at the time `now`. Takes milliseconds.
    pub(crate) fn new(pair: &Pair, files: &TlsFiles, listener: &'static str, now: UnixTime) -> Result<Self, TlsError> {
        let [certificate, key] = names(files, listener);
        let chain = chain(&pair.certificate, &certificate)?;
        let secret = secret(&pair.key, &key)?;
        let provider = Arc::new(default_provider());
        let expiry = expiry(&chain[0], &certificate, now, &provider)?;
        // Apart from the certificate, so that what is wrong with it is not taken for the key's fault.
        let signer = provider.key_provider.load_private_key(secret.clone_key());
        drop(signer.map_err(|source| TlsError::BadKey { file: key.clone(), source })?);

        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.expect("invariant: the provider has suites for the default versions").with_no_client_auth();
        // Sessions are resumed within one configuration: a new certificate is shown to all who connect from then on.
        let mut config = config.with_single_cert(chain, secret).map_err(|source| match source {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                TlsError::Mismatch { certificate: certificate.clone(), key }
            }
            source => TlsError::BadCertificate { file: certificate, source },
        })?;
        config.alpn_protocols = vec![ALPN_HTTP1.to_vec()];
        let refusing = Arc::new(config.clone());
        config.alpn_protocols.insert(0, ALPN_HTTP2.to_vec());
        Ok(Self { config: Arc::new(config), refusing, expiry })
    }
}

fn names(files: &TlsFiles, listener: &'static str) -> [TlsFile; 2] {
    let name = |path: &Path, setting| TlsFile { path: path.into(), listener, setting };
    [name(&files.certificate, "certificate"), name(&files.key, "key")]
}

fn read(file: TlsFile) -> Result<Vec<u8>, TlsError> {
    match read_whole(&file.path) {
        Ok(bytes) if bytes.len() as u64 > FILE_BYTES_MAX => Err(TlsError::TooLarge { file }),
        Ok(bytes) => Ok(bytes),
        Err(source) => Err(TlsError::Unreadable { file, source }),
    }
}

/// All of a file that is not too large, one byte more of one that is.
fn read_whole(path: &Path) -> io::Result<Vec<u8>> {
    // A pipe could be waited for without end.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is no file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The certificates in a file, of which there is one.
fn chain(text: &[u8], file: &TlsFile) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let chain = chain.map_err(|source| TlsError::Broken { file: file.clone(), source })?;
    if chain.is_empty() { Err(TlsError::NoCertificate { file: file.clone() }) } else { Ok(chain) }
}

fn secret(text: &[u8], file: &TlsFile) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(text).map_err(|source| match source {
        pem::Error::NoItemsFound => TlsError::NoKey { file: file.clone() },
        source => TlsError::Broken { file: file.clone(), source },
    })
}

/// When a certificate that is valid `now` expires.
///
/// rustls looks at a server's own certificate only where it verifies one, and there at its times first: they are asked for by
/// verifying it against no authority at all.
fn expiry(
    certificate: &CertificateDer<'_>,
    file: &TlsFile,
    now: UnixTime,
    provider: &CryptoProvider,
) -> Result<Duration, TlsError> {
    let since_1970 = |time: UnixTime| Duration::from_secs(time.as_secs());
    let bad = |source| TlsError::BadCertificate { file: file.clone(), source };
    let parsed = ParsedCertificate::try_from(certificate).map_err(bad)?;
    let algorithms = provider.signature_verification_algorithms.all;
    let verified = |time| verify_server_cert_signed_by_trust_anchor(&parsed, &RootCertStore::empty(), &[], time, algorithms);
    if let Err(rustls::Error::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. })) = verified(now) {
        let wait = since_1970(not_before).saturating_sub(since_1970(now));
        return Err(TlsError::Early { file: file.clone(), wait });
    }
    match verified(UnixTime::since_unix_epoch(Duration::MAX)) {
        Err(rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
            let (end, now) = (since_1970(not_after), since_1970(now));
            if end < now { Err(TlsError::Expired { file: file.clone(), ago: now - end }) } else { Ok(end) }
        }
        Err(source) => Err(bad(source)),
        Ok(()) => Ok(Duration::MAX),
    }
}

#[cfg(test)]
impl Pair {
    pub(crate) fn of(certificate: &str, key: &str) -> Self {
        Self { certificate: certificate.into(), key: key.into() }
    }
}
