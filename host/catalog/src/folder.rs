//! Function folders: found, read and checked whole, with every error of all of them in one go. Blocking.
//!
//! A folder holds `function.toml` and the files that it names. What is in those files is not looked at.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sandmill_domain::FunctionName;
use sandmill_domain::PluginLimits;
use thiserror::Error;

use crate::document::{DOCUMENT_BYTES_MAX, Document, Problem};
use crate::files::{FileError, Folder};
use crate::function::FunctionSpec;
use crate::manifest::{Manifest, UPLOADS, UploadKind, UploadName};
use crate::reader::Reader;

/// The file that makes a folder a function's.
const MANIFEST: &str = "function.toml";

/// What may be read at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileLimits {
    /// A model, in bytes.
    pub model_bytes_max: u64,
    /// A plugin's component, in bytes.
    pub component_bytes_max: u64,
    /// The assets of one function together, in bytes.
    pub assets_bytes_max: u64,
    /// Of the models of all functions, in bytes, what is kept until they are loaded: the others are read once more.
    pub kept_bytes_max: usize,
    /// Functions in all.
    pub functions_max: usize,
    /// What a plugin has where `function.toml` does not say.
    pub plugin: PluginLimits,
    /// Whether settings may come from the server's environment; not for a stranger's function.
    pub environment: bool,
    /// What becomes of plugins and models that are named by `from`.
    pub uploads: Uploads,
}

/// Plugins and models that are named by `from`, which a folder does not bring itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uploads {
    /// Nobody knows them: to name one is wrong.
    Unknown,
    /// They lie in the folder, where [`UploadName::folder`] says.
    Placed,
    /// They are passed over, as if they were empty: what comes of it is good for [`crate::pack`] and nothing else.
    Unread,
}

impl Default for FileLimits {
    fn default() -> Self {
        Self {
            model_bytes_max: 2 << 30,
            component_bytes_max: 64 << 20,
            assets_bytes_max: 64 << 20,
            kept_bytes_max: 256 << 20,
            functions_max: 4096,
            plugin: PluginLimits::default(),
            environment: true,
            uploads: Uploads::Unknown,
        }
    }
}

/// Why a folder was refused; shown as one line per problem.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum ReadError {
    /// It could not be read at all.
    #[error("{}: {message}", path.display())]
    Unreadable {
        /// The folder or the file, as it was given.
        path: PathBuf,
        /// What is wrong, and what to do.
        message: String,
    },
    /// A file that was read is wrong.
    #[error("{}", Lines(path, problems))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// At least one, in the order of the file.
        problems: Vec<Problem>,
    },
}

impl ReadError {
    /// The same for somebody who knows the folder, and is not to know where it lies: files by their names in it.
    pub fn within_folder(&self) -> String {
        match self {
            Self::Unreadable { path, message } => {
                format!("{}: {message}", path.file_name().unwrap_or_default().display())
            }
            Self::Invalid { problems, .. } => Lines(Path::new(MANIFEST), problems).to_string(),
        }
    }
}

/// `path/function.toml:7: model.batch_max: …`, a line for each.
struct Lines<'a>(&'a Path, &'a [Problem]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.1.iter().enumerate() {
            let newline = if at == 0 { "" } else { "\n" };
            write!(f, "{newline}{}:{}: {}", self.0.display(), problem.line, problem.text())?;
        }
        Ok(())
    }
}

/// Reads all functions: each folder given is a function's, or holds functions' folders. They come in the order given, within a
/// folder by name.
///
/// # Errors
/// Everything that is wrong with any of them.
pub fn read_functions(folders: &[PathBuf], limits: &FileLimits) -> Result<Vec<FunctionSpec>, Vec<ReadError>> {
    let mut errors = Vec::new();
    let mut found = Vec::new();
    for folder in folders {
        match find_functions(folder) {
            Ok(more) => found.extend(more),
            Err(error) => errors.push(error),
        }
    }
    if let Some(beyond) = found.get(limits.functions_max) {
        let message = format!("this is one function too many: there may be {}", limits.functions_max);
        return Err(vec![ReadError::Unreadable { path: beyond.clone(), message }]);
    }
    let mut functions = Vec::with_capacity(found.len());
    let mut kept: usize = 0;
    for folder in found {
        match read_function(&folder, limits) {
            Ok(mut function) => {
                for model in &mut function.models {
                    model.file.bytes =
                        model.file.bytes.take_if(|bytes| kept.saturating_add(bytes.len()) <= limits.kept_bytes_max);
                    kept += model.file.bytes.as_ref().map_or(0, Bytes::len);
                }
                functions.push(function);
            }
            Err(error) => errors.push(error),
        }
    }
    errors.extend(find_duplicates(&functions));
    if errors.is_empty() { Ok(functions) } else { Err(errors) }
}

/// The function's folder itself, or those below it.
fn find_functions(folder: &Path) -> Result<Vec<PathBuf>, ReadError> {
    if has_manifest(folder) {
        return Ok(vec![folder.to_owned()]);
    }
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = entries.map_err(|error| refuse_folder(folder, &error))?;
    // Hidden folders are other tools' copies of the visible ones, as in a mounted volume of Kubernetes.
    let visible = entries.iter().filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."));
    let mut found: Vec<_> = visible.map(fs::DirEntry::path).filter(|path| has_manifest(path)).collect();
    found.sort();
    if found.is_empty() { Err(refuse_empty(folder)) } else { Ok(found) }
}

/// Also where it cannot be told: a folder that may not be looked into is refused later rather than passed over.
fn has_manifest(folder: &Path) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound};
    folder.join(MANIFEST).symlink_metadata().map_or_else(|error| !matches!(error.kind(), NotFound | NotADirectory), |_| true)
}

fn refuse_folder(folder: &Path, error: &io::Error) -> ReadError {
    let message = match error.kind() {
        io::ErrorKind::NotFound => "there is no such folder".into(),
        io::ErrorKind::NotADirectory => "is no folder: give the folder that holds `function.toml`".into(),
        io::ErrorKind::PermissionDenied => "may not be read by this user: check its permissions".into(),
        _ => format!("cannot be read: {error}"),
    };
    ReadError::Unreadable { path: folder.to_owned(), message }
}

fn refuse_empty(folder: &Path) -> ReadError {
    let message = "no `function.toml` here, nor in a folder below; a function's folder holds `function.toml` and the model and \
        plugin that it names";
    ReadError::Unreadable { path: folder.to_owned(), message: message.into() }
}

fn find_duplicates(functions: &[FunctionSpec]) -> Vec<ReadError> {
    let mut taken: HashMap<&FunctionName, &Path> = HashMap::new();
    let mut errors = Vec::new();
    for function in functions {
        if let Some(holder) = taken.insert(&function.name, &function.folder) {
            let message = format!("the name `{}` is already taken by the function in {}", function.name, holder.display());
            errors.push(ReadError::Unreadable { path: function.folder.clone(), message });
        }
    }
    errors
}

/// Reads one function's folder with all files that it names.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read_function(path: &Path, limits: &FileLimits) -> Result<FunctionSpec, ReadError> {
    let folder = Folder::open(path).map_err(|error| refuse_folder(path, &error))?;
    let text = read_manifest(path, &folder)?;
    let refuse = |problems| ReadError::Invalid { path: path.join(MANIFEST), problems };
    let document = Document::parse(&text).map_err(|problem| refuse(vec![problem]))?;
    let (manifest, mut problems) = document.read::<Manifest>();
    problems.extend(manifest.iter().flat_map(|manifest| manifest.check(&document)));
    let mut reader = Reader::new(&folder, &document, limits, problems);
    let function = manifest.and_then(|manifest| reader.read(path, manifest));
    let mut problems = reader.into_problems();
    problems.sort();
    function.filter(|_| problems.is_empty()).ok_or_else(|| refuse(problems))
}

/// An upload that a manifest names by `from`, and where it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedUpload {
    /// What it is.
    pub kind: UploadKind,
    /// What it is called there.
    pub name: UploadName,
    /// The line, counted from 1, and the key.
    pub place: Problem,
}

impl NamedUpload {
    /// What is wrong with it, as [`read_function`] would tell it.
    pub fn refuse(&self, message: impl Into<String>) -> ReadError {
        let problem = Problem { message: message.into(), ..self.place.clone() };
        ReadError::Invalid { path: MANIFEST.into(), problems: vec![problem] }
    }
}

/// The uploads that a function's manifest names, for whoever puts them into its folder before it is read. Of a manifest that is
/// wrong, those that can be told: [`read_function`] says what is wrong.
///
/// # Errors
/// If the folder has something where they are to lie.
pub fn named_uploads(path: &Path) -> Result<Vec<NamedUpload>, ReadError> {
    let folder = Folder::open(path).map_err(|error| refuse_folder(path, &error))?;
    if path.join(UPLOADS).symlink_metadata().is_ok() {
        let message = "is where what `from` names is put: leave it out of what you send".to_owned();
        return Err(ReadError::Unreadable { path: path.join(UPLOADS), message });
    }
    let Ok(text) = read_manifest(path, &folder) else { return Ok(Vec::new()) };
    let Ok(document) = Document::parse(&text) else { return Ok(Vec::new()) };
    let (manifest, _problems) = document.read::<Manifest>();
    let tables = manifest.iter().flat_map(Manifest::tables);
    let named = tables.filter_map(|(key, kind, name)| {
        let place = document.problem(&[&key[..], &["from"]].concat(), "");
        Some(NamedUpload { kind, name: name?.clone(), place })
    });
    Ok(named.collect())
}

fn read_manifest(path: &Path, folder: &Folder) -> Result<String, ReadError> {
    let file = path.join(MANIFEST);
    let content = folder.read(MANIFEST.as_ref(), DOCUMENT_BYTES_MAX as u64).map_err(|error| match error {
        FileError::Missing => refuse_empty(path),
        error => ReadError::Unreadable { path: file.clone(), message: error.to_string() },
    })?;
    String::from_utf8(content.1.into()).map_err(|error| {
        let good = str::from_utf8(&error.as_bytes()[..error.utf8_error().valid_up_to()]).unwrap_or_default();
        ReadError::Invalid { path: file, problems: vec![Problem::at(good, good.len(), String::new(), "this is not UTF-8")] }
    })
}
