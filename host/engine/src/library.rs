//! Finds the ONNX Runtime library and starts its environment, once per process. Knows nothing of models.

use std::env;
use std::error::Error as _;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use ort::LoadDynamicError;
use ort::environment::{Environment, EnvironmentBuilder};
use thiserror::Error;

use crate::{EngineError, lock, log};

/// The variable that names the library's file, as other users of `ort` know it.
const VARIABLE: &str = "ORT_DYLIB_PATH";
/// Where the project's set-up puts the library, below the checkout or beside the installation.
const FOLDER: &str = ".sandmill/lib";
/// How many folders above the executable are searched: `target/debug/deps/x` lies four below the checkout.
const ANCESTORS_MAX: usize = 4;

/// Why no library was found.
#[derive(Debug, Error)]
pub enum LibraryError {
    /// A certain file was asked for, and it is not there.
    #[error("no ONNX Runtime library at `{}`, which {origin} names: correct that, or leave it out and type `make setup`", path.display())]
    Named {
        /// Who names it.
        origin: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// None is where one could be.
    #[error("no ONNX Runtime library (`libonnxruntime.so*`) in {}: type `make setup`", list(looked))]
    NotFound {
        /// The folders that were searched.
        looked: Vec<PathBuf>,
    },
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| format!("`{}`", path.display())).collect::<Vec<_>>().join(", ")
}

/// The ONNX Runtime library on this machine.
#[derive(Debug)]
pub struct Runtime;

impl Runtime {
    /// The library's file: the configured one, else what `ORT_DYLIB_PATH` names, else the newest in `.sandmill/lib` under one of
    /// the four folders above the executable. Not under the current directory: whoever checks a stranger's folder from within
    /// it would run the stranger's library.
    ///
    /// # Errors
    /// If the configured file does not exist, or none is found; the text says where it was looked for and what to type.
    pub fn find(configured: Option<&Path>) -> Result<PathBuf, LibraryError> {
        let folders = above_executable().into_iter().map(|folder| folder.join(FOLDER));
        search(configured, env::var_os(VARIABLE), folders.collect())
    }
}

fn above_executable() -> Vec<PathBuf> {
    let Ok(executable) = env::current_exe() else { return Vec::new() };
    executable.ancestors().skip(1).take(ANCESTORS_MAX).map(Path::to_owned).collect()
}

fn search(configured: Option<&Path>, variable: Option<OsString>, folders: Vec<PathBuf>) -> Result<PathBuf, LibraryError> {
    if let Some(path) = configured {
        return named("the configuration", path);
    }
    if let Some(path) = variable.filter(|path| !path.is_empty()) {
        return named(VARIABLE, Path::new(&path));
    }
    let found = folders.iter().find_map(|folder| newest_in(folder));
    found.ok_or(LibraryError::NotFound { looked: folders })
}

fn named(origin: &'static str, path: &Path) -> Result<PathBuf, LibraryError> {
    if path.is_file() { Ok(path.to_owned()) } else { Err(LibraryError::Named { origin, path: path.to_owned() }) }
}

fn newest_in(folder: &Path) -> Option<PathBuf> {
    let is_library = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with("libonnxruntime.so")) && path.is_file()
    };
    if !is_trusted(folder) {
        return None;
    }
    let files = fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path())).filter(is_library);
    files.max_by_key(|path| (version(path), path.clone()))
}

/// Whether nobody but this user, root, and whom they let into their group could have put a library there.
fn is_trusted(folder: &Path) -> bool {
    let us = rustix::process::geteuid().as_raw();
    fs::metadata(folder).is_ok_and(|folder| (folder.uid() == us || folder.uid() == 0) && folder.mode() & 0o002 == 0)
}

/// The numbers in a file's name: 1.100 is newer than 1.31, though not as a text.
fn version(path: &Path) -> Vec<u64> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.split(|letter: char| !letter.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

/// What the process has loaded; neither can be undone.
struct Process {
    library: Option<PathBuf>,
    environment: Option<Environment>,
}

static PROCESS: Mutex<Process> = Mutex::new(Process { library: None, environment: None });

/// The process's environment, started from this library if there is none yet.
pub(crate) fn environment(library: &Path) -> Result<Environment, EngineError> {
    let unusable = |reason: String| EngineError::Unusable { library: library.to_owned(), reason };
    // An absolute path, because `ort` looks for a relative one beside the executable first.
    let path = library.canonicalize().map_err(|error| unusable(error.to_string()))?;
    let mut process = lock(&PROCESS);
    if let Some(loaded) = process.library.as_ref().filter(|loaded| **loaded != path) {
        return Err(EngineError::AnotherLibrary { loaded: loaded.clone() });
    }
    if let Some(environment) = &process.environment {
        return Ok(environment.clone());
    }
    let builder = guard(|| ort::init_from(&path).map_err(|error| describe(&error))).map_err(unusable)?;
    process.library = Some(path);
    let environment = guard(|| build(builder)).map_err(unusable)?;
    process.environment = Some(environment.clone());
    Ok(environment)
}

/// What is wrong with a file; the loader's own words lie a level deeper than `ort` shows.
fn describe(error: &LoadDynamicError) -> String {
    match error {
        LoadDynamicError::Dlopen { error, .. } => error.source().map_or_else(|| error.to_string(), ToString::to_string),
        LoadDynamicError::MissingApi { .. } => "it does not export `OrtGetApiBase`".to_owned(),
        LoadDynamicError::InvalidVersionString => "its version makes no sense".to_owned(),
        LoadDynamicError::BadVersion { version_str, .. } => {
            format!("it is version {version_str}, and 1.{} is the oldest that serves", ort::MINOR_VERSION)
        }
    }
}

/// Without a global thread pool: with one, `ort` ignores what a session asks for.
fn build(builder: EnvironmentBuilder) -> ort::Result<Environment> {
    let environment = builder.with_name("sandmill").with_telemetry(false).with_logger(Arc::new(log::forward)).build()?;
    environment.set_log_level(log::level());
    Ok(environment)
}

/// Turns a panic of `ort` into an error: it asserts what a broken library does not keep.
pub(crate) fn guard<T, E: std::fmt::Display>(work: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(panic) => Err(panic_text(&*panic)),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "it broke an assumption".to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn folder_with(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            fs::write(folder.path().join(file), "").unwrap();
        }
        folder
    }

    #[test]
    fn the_configured_file_comes_before_the_variable_and_the_folders() {
        let folder = folder_with(&["a.so", "b.so", "libonnxruntime.so.1.31.1"]);
        let at = |name: &str| folder.path().join(name);
        let folders = vec![folder.path().to_owned()];
        let variable = Some(at("b.so").into_os_string());
        assert_eq!(search(Some(&at("a.so")), variable.clone(), folders.clone()).unwrap(), at("a.so"));
        assert_eq!(search(None, variable, folders.clone()).unwrap(), at("b.so"));
        assert_eq!(search(None, Some(OsString::new()), folders.clone()).unwrap(), at("libonnxruntime.so.1.31.1"));
        assert_eq!(search(None, None, folders).unwrap(), at("libonnxruntime.so.1.31.1"));
    }

    #[test]
    fn a_folder_that_anybody_can_write_to_is_passed_over() {
        let folder = folder_with(&["libonnxruntime.so.1.31.1"]);
        assert!(newest_in(folder.path()).is_some());
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(newest_in(folder.path()), None);
    }

    #[test]
    fn of_several_the_newest_is_taken_and_nothing_else() {
        let folder =
            folder_with(&["libonnxruntime.so.1.31.1", "libonnxruntime.so.1.132.0", "libonnxruntime_providers_shared.so"]);
        fs::create_dir(folder.path().join("libonnxruntime.so.9")).unwrap();
        assert_eq!(newest_in(folder.path()).unwrap(), folder.path().join("libonnxruntime.so.1.132.0"));
    }

    #[test]
    fn a_missing_library_is_reported_with_where_and_what_to_type() {
        let missing = Path::new("/nowhere/libonnxruntime.so");
        let cases = [
            (search(Some(missing), None, vec![]), "which the configuration names"),
            (search(None, Some(missing.into()), vec![]), "which ORT_DYLIB_PATH names"),
            (search(None, None, vec!["/nowhere/a".into(), "/nowhere/b".into()]), "in `/nowhere/a`, `/nowhere/b`"),
        ];
        for (result, expected) in cases {
            let text = result.unwrap_err().to_string();
            assert!(text.contains(expected) && text.contains("`make setup`"), "{text}");
        }
    }

    #[test]
    fn a_panic_becomes_a_text() {
        assert_eq!(guard(|| -> Result<(), String> { panic!("broken {}", 1) }), Err("broken 1".to_owned()));
        assert_eq!(guard(|| -> Result<(), String> { panic!("broken") }), Err("broken".to_owned()));
    }
}
