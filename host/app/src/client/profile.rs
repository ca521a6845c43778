//! The file of profiles: servers by name, each with the key for it. Only its owner may read it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use sandmill_catalog::read_document;
use sandmill_domain::TenantId;
use serde::Deserialize;

use super::access::user_folder;
use super::{Secret, ServerUrl};

/// What may be read or written of it by others.
const OTHERS: u32 = 0o077;

/// All profiles.
#[derive(Debug)]
pub(crate) struct Profiles {
    path: PathBuf,
    mode: u32,
    entries: BTreeMap<String, Entry>,
}

/// One server, and who somebody is there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entry {
    pub(crate) control: Option<ServerUrl>,
    pub(crate) functions: Option<ServerUrl>,
    pub(crate) key: Option<Secret>,
    pub(crate) tenant: Option<TenantId>,
    pub(crate) ca: Option<PathBuf>,
}

/// As it stands in the file.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    control: Option<String>,
    functions: Option<String>,
    key: Option<String>,
    tenant: Option<TenantId>,
    ca: Option<PathBuf>,
}

impl Profiles {
    /// Those of this user; none where there is no file.
    ///
    /// # Errors
    /// If the file cannot be read, or is wrong.
    pub(crate) fn read() -> Result<Self> {
        Self::at(&user_folder("XDG_CONFIG_HOME", ".config")?.join("profiles.toml"))
    }

    fn at(path: &Path) -> Result<Self> {
        let found = match std::fs::metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(Self { path: path.to_owned(), mode: 0o600, entries: BTreeMap::new() });
            }
            found => found.with_context(|| format!("cannot read {}", path.display()))?,
        };
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let written: BTreeMap<String, Written> = read_document(&text).map_err(|problems| {
            let lines: Vec<_> = problems.iter().map(|problem| format!("{}: {problem}", path.display())).collect();
            anyhow!("{}", lines.join("\n"))
        })?;
        let entries = written.into_iter().map(|(name, written)| {
            let entry = Entry::of(written).with_context(|| format!("{}: the profile `{name}`", path.display()))?;
            Ok((name, entry))
        });
        Ok(Self { path: path.to_owned(), mode: found.mode(), entries: entries.collect::<Result<_>>()? })
    }

    /// Where they are.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    pub(crate) fn entries(&self) -> &BTreeMap<String, Entry> {
        &self.entries
    }

    /// Whether nobody else may read them.
    pub(crate) fn are_private(&self) -> bool {
        self.mode & OTHERS == 0
    }

    /// Why a key is not taken from them.
    pub(crate) fn exposed(&self) -> String {
        let (path, mode) = (self.path.display(), self.mode & 0o777);
        format!(
            "{path} has a key in it, and others may read it (its mode is {mode:03o}): `chmod 600 {path}`, or take another key"
        )
    }

    /// Puts one in its place, and writes all; nobody else may read the file then.
    ///
    /// # Errors
    /// If the name is none, or the file cannot be written.
    pub(crate) fn set(&mut self, name: &str, entry: Entry) -> Result<()> {
        check_name(name)?;
        self.entries.insert(name.to_owned(), entry);
        self.write()
    }

    /// Forgets one; whether it was there.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(crate) fn remove(&mut self, name: &str) -> Result<bool> {
        let was_there = self.entries.remove(name).is_some();
        if was_there {
            self.write()?;
        }
        Ok(was_there)
    }

    /// Beside the file and then renamed: a reader sees all of it or what was there before.
    fn write(&self) -> Result<()> {
        let folder = self.path.parent().context("the file of profiles has no folder")?;
        let trouble = || format!("cannot write {}", self.path.display());
        DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(trouble)?;
        let draft = self.path.with_extension(format!("{}.toml", std::process::id()));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft);
        let written = file.and_then(|mut file| {
            file.write_all(self.text().as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&draft, &self.path)
        });
        if written.is_err() {
            // Nothing more can be done about a draft that stays behind.
            let _ignored = std::fs::remove_file(&draft);
        }
        written.with_context(trouble)
    }

    fn text(&self) -> String {
        let mut text = "# Written by `sandmill init` and `sandmill profile`. There are keys in it.\n".to_owned();
        for (name, entry) in &self.entries {
            let ca = entry.ca.as_ref().map(|ca| ca.display().to_string());
            let values = [
                ("control", entry.control.as_ref().map(ToString::to_string)),
                ("functions", entry.functions.as_ref().map(ToString::to_string)),
                ("key", entry.key.as_ref().map(|key| key.expose().to_owned())),
                ("tenant", entry.tenant.as_ref().map(ToString::to_string)),
                ("ca", ca),
            ];
            let _infallible = writeln!(text, "\n[{name}]");
            for (key, value) in values.into_iter().filter_map(|(key, value)| Some((key, value?))) {
                let _infallible = writeln!(text, "{key} = {}", quoted(&value));
            }
        }
        text
    }
}

impl Entry {
    fn of(written: Written) -> Result<Self> {
        let address = |text: Option<String>| text.map(|text| ServerUrl::parse(&text)).transpose().map_err(|error| anyhow!(error));
        Ok(Self {
            control: address(written.control)?,
            functions: address(written.functions)?,
            key: written.key.map(|key| Secret::new(&key)).transpose()?,
            tenant: written.tenant,
            ca: written.ca,
        })
    }
}

/// One that stands in the file without quotes.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if name.is_empty() || name.len() > 63 || !name.bytes().all(is_plain) {
        bail!("`{name}` is no profile's name: letters, digits, `-` and `_`, 63 at most");
    }
    Ok(())
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut quoted = "\"".to_owned();
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            letter if letter.is_control() => {
                let _infallible = write!(quoted, "\\u{:04X}", u32::from(letter));
            }
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn entry() -> Entry {
        Entry {
            control: Some(ServerUrl::parse("https://control.example.com").expect("an address")),
            functions: None,
            key: Some(Secret::new("sm_0123456789_aa").expect("a key")),
            tenant: Some(TenantId::new("acme").expect("a name")),
            ca: Some("/etc/\"odd\" \\ place/ca.pem".into()),
        }
    }

    #[test]
    fn what_is_written_is_read_and_private() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("deep/profiles.toml");
        let mut profiles = Profiles::at(&path).expect("none yet");
        profiles.set("work", entry()).expect("written");
        profiles.set("home", Entry::default()).expect("written");
        assert_eq!(std::fs::metadata(&path).expect("it is there").mode() & 0o777, 0o600);
        let again = Profiles::at(&path).expect("read");
        assert!(again.are_private());
        assert_eq!(again.entries().keys().collect::<Vec<_>>(), ["home", "work"]);
        let work = again.get("work").expect("it is there");
        assert_eq!(
            (&work.control, &work.key, &work.tenant, &work.ca),
            (&entry().control, &entry().key, &entry().tenant, &entry().ca)
        );
        assert!(profiles.remove("work").expect("written") && !profiles.remove("work").expect("nothing to do"));
        assert_eq!(std::fs::read_dir(path.parent().expect("a folder")).expect("read").count(), 1);
    }

    #[test]
    fn what_others_may_read_is_told_without_the_key() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("profiles.toml");
        std::fs::write(&path, "[default]\nkey = 'sm_0123456789_aa'\n").expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("set");
        let profiles = Profiles::at(&path).expect("read");
        assert!(!profiles.are_private());
        let told = profiles.exposed();
        assert!(told.contains("640") && told.contains("chmod 600") && !told.contains("sm_"), "{told}");
    }

    #[test]
    fn mistakes_are_told_without_the_key() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("profiles.toml");
        for (text, word) in [
            ("[default]\nkey = 'sm_1 sm_2'\n", "no key"),
            ("[default]\nkey = sm_12345\n", "line 2"),
            ("[default]\nkeys = 'sm_12345'\n", "keys"),
            ("[default]\ncontrol = 'nonsense'\n", "nonsense"),
        ] {
            std::fs::write(&path, text).expect("written");
            let told = format!("{:#}", Profiles::at(&path).expect_err(text));
            assert!(told.contains(word) && !told.contains("sm_1"), "{told}");
        }
        assert!(check_name("a b").is_err() && check_name("").is_err() && check_name("[x]").is_err());
    }
}
