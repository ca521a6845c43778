//! From a store's name to its client: folders, memory, and the clouds' with their credentials from the environment.

use std::path::Path;
use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientConfigKey, ObjectStore, ObjectStoreScheme, RetryConfig};
use reqwest::Url;

use super::error::StoreError;
use super::failure::Failure;
use super::local::Local;
use super::options::StoreOptions;

/// What a location leads to.
pub(super) struct Found {
    pub(super) client: Arc<dyn ObjectStore>,
    pub(super) local: Option<Local>,
}

/// How often the client repeats a request by itself: it resumes a download where it broke, and a part of an upload.
const CLIENT_RETRIES: usize = 2;

/// The client for a plain path, `file://`, `memory:`, `s3://`, `gs://` or `az://`.
pub(super) fn find(location: &str, options: &StoreOptions) -> Result<Found, StoreError> {
    if location == "memory:" {
        return Ok(Found { client: Arc::new(InMemory::new()), local: None });
    }
    if !location.contains("://") {
        return folder(Path::new(location), location);
    }
    let url = Url::parse(location).map_err(|error| refuse(location, error.to_string()))?;
    if url.scheme() == "file" {
        let path = url.to_file_path().map_err(|()| refuse(location, "give a whole path, as in `file:///srv/sandmill`"))?;
        return folder(&path, location);
    }
    Ok(Found { client: cloud(&url, location, options)?, local: None })
}

fn refuse(location: &str, why: impl Into<String>) -> StoreError {
    StoreError::Location { location: location.to_owned(), why: why.into() }
}

fn folder(path: &Path, location: &str) -> Result<Found, StoreError> {
    if path.as_os_str().is_empty() {
        return Err(refuse(location, "give a folder, or `s3://…`, `gs://…`, `az://…`"));
    }
    let local = Local::make(path).map_err(|error| Failure::from(error).into_error(path.display().to_string()))?;
    let client = LocalFileSystem::new_with_prefix(local.root()).map_err(|error| refuse(location, error.to_string()))?;
    Ok(Found { client: Arc::new(client.with_fsync(true)), local: Some(local) })
}

fn cloud(url: &Url, location: &str, options: &StoreOptions) -> Result<Arc<dyn ObjectStore>, StoreError> {
    let told = |error: object_store::Error| refuse(location, error.to_string());
    let (scheme, path) = ObjectStoreScheme::parse(url).map_err(|error| refuse(location, error.to_string()))?;
    // The client takes the process's provider of cryptography. Another that is installed already serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client: Arc<dyn ObjectStore> = match scheme {
        ObjectStoreScheme::AmazonS3 => Arc::new(amazon(url, options).build().map_err(told)?),
        ObjectStoreScheme::GoogleCloudStorage => Arc::new(google(url, options).build().map_err(told)?),
        ObjectStoreScheme::MicrosoftAzure => Arc::new(azure(url, options).build().map_err(told)?),
        _ => return Err(refuse(location, "there are folders, `s3://…`, `gs://…` and `az://…`")),
    };
    Ok(if path.is_root() { client } else { Arc::new(PrefixStore::new(client, path)) })
}

fn amazon(url: &Url, options: &StoreOptions) -> AmazonS3Builder {
    let builder = AmazonS3Builder::from_env().with_url(url.as_str()).with_retry(retry(options));
    times(options).into_iter().fold(builder, |builder, (key, value)| builder.with_config(AmazonS3ConfigKey::Client(key), value))
}

fn google(url: &Url, options: &StoreOptions) -> GoogleCloudStorageBuilder {
    let builder = GoogleCloudStorageBuilder::from_env().with_url(url.as_str()).with_retry(retry(options));
    times(options).into_iter().fold(builder, |builder, (key, value)| builder.with_config(GoogleConfigKey::Client(key), value))
}

fn azure(url: &Url, options: &StoreOptions) -> MicrosoftAzureBuilder {
    let builder = MicrosoftAzureBuilder::from_env().with_url(url.as_str()).with_retry(retry(options));
    times(options).into_iter().fold(builder, |builder, (key, value)| builder.with_config(AzureConfigKey::Client(key), value))
}

fn retry(options: &StoreOptions) -> RetryConfig {
    let backoff = BackoffConfig { init_backoff: options.backoff_first, max_backoff: options.backoff_max, base: 2.0 };
    RetryConfig { backoff, max_retries: CLIENT_RETRIES, retry_timeout: options.transfer_timeout }
}

/// The client's own limit holds for a whole download, however long that is; each piece has a limit of ours.
fn times(options: &StoreOptions) -> [(ClientConfigKey, String); 2] {
    let whole = options.transfer_timeout.saturating_mul(1000);
    [
        (ClientConfigKey::Timeout, format!("{}ms", whole.as_millis())),
        (ClientConfigKey::ConnectTimeout, format!("{}ms", options.timeout.as_millis())),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_store_is_told_so() {
        for (location, why) in [
            ("", "give a folder"),
            ("ftp://host/x", "Unable to recognise"),
            ("https://host/x", "there are folders"),
            ("s3://", "`s3://` names no store"),
            ("file://host/x", "give a whole path"),
        ] {
            let error = find(location, &StoreOptions::default()).map(|_| ()).expect_err(location);
            assert!(error.to_string().contains(why), "{location}: {error}");
        }
    }

    #[test]
    fn a_cloud_needs_no_network_to_be_named() {
        assert!(find("s3://bucket/a/b", &StoreOptions::default()).is_ok_and(|found| found.local.is_none()));
    }
}
