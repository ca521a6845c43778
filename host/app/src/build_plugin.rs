//! Turns a plugin's crate, written in Rust, into a component: cargo compiles it, `wit-component` wraps it. Runs programs and
//! writes one file; knows nothing of servers, functions or models.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs, process};

use anyhow::{Context, Result, bail};
use cargo_metadata::{Message, MetadataCommand, Target, TargetKind};
use wit_component::{ComponentEncoder, DecodedWasm};

// Not wasm32-wasip2: a guest that uses no WASI still imports some there, which costs 2 µs per call and 1.8 times the size.
const TARGET: &str = "wasm32-unknown-unknown";

// A plugin is instantiated for every request: small and fast counts, debugging it happens natively. Only the functions' names
// stay, so that the host's log can say where a plugin trapped.
const PROFILE: [(&str, &str); 6] = [
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3"),
    ("CARGO_PROFILE_RELEASE_LTO", "true"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1"),
    ("CARGO_PROFILE_RELEASE_PANIC", "abort"),
    ("CARGO_PROFILE_RELEASE_STRIP", "debuginfo"),
    ("CARGO_PROFILE_RELEASE_DEBUG", "false"),
];

/// A component, built and written.
#[derive(Debug)]
pub(crate) struct Built {
    /// Where it lies.
    pub(crate) path: PathBuf,
    /// Its size in bytes.
    pub(crate) bytes: u64,
}

/// Builds the crate in `dir` and writes its component to `output`, or else to `dir`, under the crate's name. Any library
/// crate will do, whether or not it calls itself a `cdylib`. Cargo talks to standard error meanwhile; nothing else is printed.
///
/// A profile that the caller sets through `CARGO_PROFILE_RELEASE_…` wins over the one meant for plugins. The file appears
/// whole or not at all.
///
/// # Errors
/// If `dir` holds no library crate, cargo or the target is missing, the crate does not compile, exports nothing that answers
/// requests, or the file cannot be written; each says what to do about it.
pub(crate) fn build_plugin(dir: &Path, output: Option<&Path>) -> Result<Built> {
    let manifest = manifest_in(dir)?;
    let package = library_package(&manifest)?;
    require_target(dir)?;
    let module = compile(&manifest)?;
    let component = encode(&module)?;
    let path = output.map_or_else(|| dir.join(format!("{package}.wasm")), Path::to_path_buf);
    write_whole(&path, &component)?;
    Ok(Built { path, bytes: component.len() as u64 })
}

fn manifest_in(dir: &Path) -> Result<PathBuf> {
    let manifest = dir.join("Cargo.toml");
    if !manifest.is_file() {
        bail!("{} holds no Cargo.toml: name the folder of the plugin's crate", dir.display());
    }
    fs::canonicalize(&manifest).with_context(|| format!("cannot find {}", manifest.display()))
}

/// The name of the package that this manifest declares; workspaces and programs are refused.
fn library_package(manifest: &Path) -> Result<String> {
    let mut cargo = cargo("metadata", manifest);
    let answer = finish(cargo.args(["--no-deps", "--format-version=1"]), "cargo cannot read the crate")?;
    let described = String::from_utf8(answer).context("cargo's description of the crate is no text")?;
    let metadata = MetadataCommand::parse(described).context("cargo's description of the crate cannot be read")?;
    let Some(package) = metadata.packages.into_iter().find(|package| package.manifest_path == manifest) else {
        bail!("{} declares no package: name the folder of one crate", manifest.display());
    };
    if !package.targets.iter().any(is_library) {
        bail!("the crate `{}` has no library: move the plugin to src/lib.rs", package.name);
    }
    Ok(package.name.to_string())
}

fn is_library(target: &Target) -> bool {
    let library = |kind| {
        matches!(kind, &TargetKind::Lib | &TargetKind::RLib | &TargetKind::DyLib | &TargetKind::CDyLib | &TargetKind::StaticLib)
    };
    target.kind.iter().any(library)
}

/// Refuses a toolchain that lacks the target, before cargo does so in terms of missing crates.
fn require_target(dir: &Path) -> Result<()> {
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args(["--print=target-libdir", "--target", TARGET]).current_dir(dir);
    let answer = finish(&mut rustc, "rustc does not say where its targets lie")?;
    let libraries = String::from_utf8(answer).context("rustc's answer is no text")?;
    if !Path::new(libraries.trim()).is_dir() {
        bail!("the Rust target {TARGET} is not installed; to install it: rustup target add {TARGET}");
    }
    Ok(())
}

/// The core module that cargo makes of the crate.
fn compile(manifest: &Path) -> Result<Vec<u8>> {
    let mut cargo = cargo("rustc", manifest);
    // With the crate type given, cargo optimises at link time also a crate that is an `rlib` for its tests.
    cargo.args(["--lib", "--crate-type=cdylib", "--release", "--target", TARGET, "--message-format=json-render-diagnostics"]);
    cargo.envs(PROFILE.into_iter().filter(|(key, _)| env::var_os(key).is_none()));
    let answer = finish(&mut cargo, "the plugin does not compile")?;
    let path = Message::parse_stream(&answer[..])
        .filter_map(|message| match message {
            Ok(Message::CompilerArtifact(artifact)) if artifact.manifest_path == manifest => Some(artifact.filenames),
            _ => None,
        })
        .flatten()
        .find(|path| path.extension() == Some("wasm"))
        .context("cargo made no WebAssembly module of the crate")?;
    fs::read(&path).with_context(|| format!("cannot read {path}"))
}

fn cargo(command: &str, manifest: &Path) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.arg(command).arg("--manifest-path").arg(manifest);
    // A crate's own toolchain and cargo settings are found from its folder.
    cargo.current_dir(manifest.parent().unwrap_or(manifest));
    cargo
}

/// Runs a program to its end and gives its standard output; its standard error goes to the terminal.
fn finish(command: &mut Command, failed: &str) -> Result<Vec<u8>> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().map_err(|error| {
        let program = command.get_program().display();
        match error.kind() {
            ErrorKind::NotFound => anyhow::anyhow!("{program} is not installed; Rust comes from https://rustup.rs"),
            _ => anyhow::Error::new(error).context(format!("cannot run {program}")),
        }
    })?;
    if !output.status.success() {
        bail!("{failed} ({})", output.status);
    }
    Ok(output.stdout)
}

fn encode(module: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = ComponentEncoder::default().validate(true).module(module).context("the module is no plugin's")?;
    let component = encoder.encode().context("the module does not become a component")?;
    let exports = match wit_component::decode(&component).context("the component cannot be read back")? {
        DecodedWasm::Component(resolve, world) => {
            resolve.worlds[world].exports.keys().map(|key| resolve.name_world_key(key)).collect()
        }
        DecodedWasm::WitPackage(..) => Vec::new(),
    };
    require_answers(&exports)?;
    Ok(component)
}

/// Refuses a component in which nothing answers requests; whether what does fits together is the host's to say.
fn require_answers(exports: &[String]) -> Result<()> {
    let hint = "name its functions with sandmill_plugin::export!(preprocess = …, postprocess = …) or (handler = …)";
    if exports.is_empty() {
        bail!("the crate exports nothing: {hint}");
    }
    if exports.iter().all(|export| export.starts_with("sandmill:plugin/init@")) {
        bail!("the crate exports nothing but `init`: {hint}");
    }
    Ok(())
}

/// Writes beside the target and renames, so that a reader never sees half a component.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut name = OsString::from(".");
    name.push(path.file_name().with_context(|| format!("{} is no file's name", path.display()))?);
    name.push(format!(".{}", process::id()));
    let draft = path.with_file_name(name);
    let written = fs::write(&draft, bytes).and_then(|()| fs::rename(&draft, path));
    if written.is_err() {
        // Nothing more can be done about a draft that stays behind.
        let _ignored = fs::remove_file(&draft);
    }
    written.with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(dir: &Path) -> Result<(Built, tempfile::TempDir)> {
        let folder = tempfile::tempdir().unwrap();
        let built = build_plugin(dir, Some(&folder.path().join("plugin.wasm")))?;
        Ok((built, folder))
    }

    fn refusal(files: &[(&str, &str)]) -> String {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        format!("{:#}", build_plugin(folder.path(), None).unwrap_err())
    }

    const MANIFEST: &str = "[package]\nname = \"p\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n";

    #[test]
    fn a_plugin_becomes_a_component_that_has_what_it_exports_and_imports_no_wasi() {
        let (built, _folder) = build(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins/digits")).unwrap();
        let component = fs::read(&built.path).unwrap();
        assert_eq!(component.len() as u64, built.bytes);
        let DecodedWasm::Component(resolve, world) = wit_component::decode(&component).unwrap() else {
            panic!("it should be a component");
        };
        let world = &resolve.worlds[world];
        let mut exports: Vec<_> = world.exports.keys().map(|key| resolve.name_world_key(key)).collect();
        exports.sort();
        let expected = ["init", "postprocess", "preprocess"].map(|name| format!("sandmill:plugin/{name}@0.1.0"));
        assert_eq!(exports, expected);
        let imports: Vec<_> = world.imports.keys().map(|key| resolve.name_world_key(key)).collect();
        assert!(imports.iter().all(|import| import.starts_with("sandmill:plugin/")), "{imports:?}");
        assert!(!imports.iter().any(|import| import.starts_with("sandmill:plugin/models@")), "{imports:?}");
        // A function of the SDK that no optimisation inlines: only its address is taken.
        let name = b"report_panics";
        assert!(component.windows(name.len()).any(|bytes| bytes == name), "the functions' names should survive");
    }

    #[test]
    fn init_alone_is_no_plugin() {
        let exports = |names: &[&str]| names.iter().map(|name| format!("sandmill:plugin/{name}@0.1.0")).collect::<Vec<_>>();
        let message = |names| require_answers(&exports(names)).unwrap_err().to_string();
        assert!(message(&[]).starts_with("the crate exports nothing: "));
        assert!(message(&["init"]).starts_with("the crate exports nothing but `init`: "));
        require_answers(&exports(&["handler", "init"])).unwrap();
    }

    #[test]
    fn what_is_no_plugin_is_refused_in_words() {
        let cases = [
            (&[][..], "holds no Cargo.toml"),
            (&[("Cargo.toml", "[workspace]\n")], "declares no package"),
            (&[("Cargo.toml", MANIFEST), ("src/main.rs", "fn main() {}")], "the crate `p` has no library"),
            (&[("Cargo.toml", MANIFEST), ("src/lib.rs", "fn f() -> u8 {}")], "the plugin does not compile (exit status: 101)"),
            (&[("Cargo.toml", MANIFEST), ("src/lib.rs", "//! p\n")], "the crate exports nothing"),
        ];
        for (files, expected) in cases {
            let message = refusal(files);
            assert!(message.contains(expected), "{message:?} does not say {expected:?}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let taken = folder.path().join("plugin.wasm");
        fs::create_dir(&taken).unwrap();
        fs::write(taken.join("x"), "x").unwrap();
        let error = write_whole(&taken, b"component").unwrap_err();
        assert_eq!(error.to_string(), format!("cannot write {}", taken.display()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
