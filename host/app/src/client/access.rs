//! Whom a person's commands speak to, and as whom: the command line over the environment over a profile. No other file sees a secret
//! on its way, and nothing prints one.

use std::env;
use std::fs::File;
use std::io::{Read, stdin};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use hyper::header::HeaderValue;
use sandmill_domain::TenantId;

use super::{Profiles, ServerUrl, Trust};
use crate::cli::WhoOptions;

/// The longest key that is read.
const KEY_BYTES_MAX: u64 = 512;

/// The profile without a name.
pub(crate) const DEFAULT: &str = "default";

/// What a key's holder shows.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    /// # Errors
    /// If it cannot be a key; it is not repeated.
    pub(crate) fn new(text: &str) -> Result<Self> {
        let text = text.trim();
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        if text.is_empty() || text.len() as u64 > KEY_BYTES_MAX || !text.bytes().all(is_token) {
            bail!("this is no key: a key looks like sm_…, and stands alone");
        }
        Ok(Self(text.to_owned()))
    }

    /// Reads it from a file, or from standard input.
    pub(crate) fn read(file: &Path) -> Result<Self> {
        let (source, name): (Box<dyn Read>, _) = match file.to_str() {
            Some("-") => (Box::new(stdin().lock()), "standard input".to_owned()),
            _ => {
                let open = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
                (Box::new(open), file.display().to_string())
            }
        };
        let mut text = String::new();
        source.take(KEY_BYTES_MAX + 1).read_to_string(&mut text).with_context(|| format!("cannot read {name}"))?;
        Self::new(&text).with_context(|| name)
    }

    /// For the header `Authorization`.
    pub(crate) fn header(&self) -> HeaderValue {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", self.0)).expect("invariant: a key is ASCII");
        value.set_sensitive(true);
        value
    }

    /// What may be shown of it: the key's id.
    pub(crate) fn id(&self) -> &str {
        crate::control::key_id(&self.0).unwrap_or("another's key")
    }

    /// For a file that nobody else reads, and for the one time that it is told.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secret({})", self.id())
    }
}

/// Whom to speak to, and as whom.
pub(crate) struct Access {
    pub(crate) control: ServerUrl,
    pub(crate) functions: ServerUrl,
    pub(crate) key: Option<Secret>,
    pub(crate) tenant: Option<TenantId>,
    pub(crate) trust: Trust,
}

impl Access {
    /// Puts together what the command line, the environment and the profile say.
    ///
    /// # Errors
    /// If one of them is wrong; not if none says anything.
    pub(crate) fn find(who: &WhoOptions) -> Result<Self> {
        let key = match (&who.key_file, variable("SANDMILL_KEY")?) {
            (Some(file), _) => Some(Secret::read(file)?),
            (None, Some(text)) => Some(Secret::new(&text).context("SANDMILL_KEY")?),
            (None, None) => None,
        };
        let profiles = Profiles::read()?;
        let name = who.profile.as_deref().unwrap_or(DEFAULT);
        let entry = match profiles.get(name) {
            Some(entry) => entry.clone(),
            None if who.profile.is_some() => bail!("there is no profile `{name}`: `sandmill profile list` shows which there are"),
            None => super::Entry::default(),
        };
        let key = match (key, entry.key) {
            (None, Some(_)) if !profiles.are_private() => bail!(profiles.exposed()),
            (key, other) => key.or(other),
        };
        let tenant = match variable("SANDMILL_TENANT")? {
            Some(name) => Some(TenantId::new(&name).context("SANDMILL_TENANT")?),
            None => entry.tenant,
        };
        Ok(Self {
            control: address("SANDMILL_CONTROL", entry.control, ServerUrl::control)?,
            functions: address("SANDMILL_FUNCTIONS", entry.functions, ServerUrl::functions)?,
            key,
            tenant: who.tenant.clone().or(tenant),
            trust: Trust::new(who.ca.as_deref().or(entry.ca.as_deref()))?,
        })
    }
}

fn address(name: &str, entry: Option<ServerUrl>, default: fn() -> ServerUrl) -> Result<ServerUrl> {
    match variable(name)? {
        Some(text) => ServerUrl::parse(&text).map_err(|error| anyhow!("{name}: {error}")),
        None => Ok(entry.unwrap_or_else(default)),
    }
}

/// One that is empty says nothing.
fn variable(name: &str) -> Result<Option<String>> {
    match env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => bail!("{name} is not UTF-8"),
    }
}

/// A folder of the user's for this program, by the XDG base directory specification.
pub(crate) fn user_folder(variable: &str, below_home: &str) -> Result<PathBuf> {
    let folder = |name: &str| env::var_os(name).map(PathBuf::from).filter(|folder| folder.is_absolute());
    let base = folder(variable).or_else(|| folder("HOME").map(|home| home.join(below_home)));
    Ok(base.with_context(|| format!("neither {variable} nor HOME says where your files are"))?.join("sandmill"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_shown() {
        let secret = Secret::new(" sm_0123456789_abcdef\n").expect("a key");
        assert_eq!(format!("{secret:?}"), "Secret(0123456789)");
        assert!(secret.header().is_sensitive());
        assert_eq!(secret.expose(), "sm_0123456789_abcdef");
        for text in ["", "two words", "sm_\u{e9}", "sm_1\nsm_2"] {
            let error = Secret::new(text).expect_err("no key").to_string();
            assert!(text.is_empty() || !error.contains(text), "{error}");
        }
    }
}
