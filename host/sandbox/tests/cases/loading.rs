//! What is refused before it ever runs, and what the cache does.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sandmill_domain::PluginLimits;
use sandmill_sandbox::{CacheError, CacheOptions, LoadError, Refusal, Sandbox, SandboxError, SandboxOptions};

use crate::guest::{component, component_of, module, pass_through, preprocess};
use crate::harness::{self, Harness, call, soon};

fn useful() -> Vec<u8> {
    component("processor", &pass_through())
}

#[test]
fn what_is_no_component_is_refused() {
    let harness = Harness::start();
    for text in [&b""[..], b"hello", b"(component)", b"PK\x03\x04whatever", &[0; 100]] {
        assert!(matches!(harness.refusal(text), LoadError::NotWasm), "{text:?}");
    }
    let refusal = harness.refusal(&module(&pass_through()));
    assert!(matches!(refusal, LoadError::CoreModule));
    assert!(refusal.to_string().contains("sandmill build"));
    let good = useful();
    // The last of it are notes on who produced it, which may be missing.
    for length in (8..good.len() / 2).step_by(97) {
        assert!(harness.0.load(&good[..length], harness::options()).is_err(), "cut at {length}");
    }
    let mut damaged = good.clone();
    let middle = damaged.len() / 2;
    damaged[middle..].reverse();
    assert!(matches!(harness.refusal(&damaged), LoadError::Refused(Refusal::Invalid(_))));
}

#[test]
fn every_ungranted_import_is_named() {
    let imports = [
        ("wasi:sockets/tcp-create-socket@0.2.6", "create", "(result i32)"),
        ("wasi:http/outgoing-handler@0.2.6", "handle", "(result i32)"),
        ("wasi:clocks/monotonic-clock@0.3.0", "now", "(result i64)"),
        ("acme:store/blobs@1.0.0", "get", "(result i32)"),
        ("$root", "bare", ""),
    ];
    let text: String =
        imports.iter().map(|(interface, function, ty)| format!(r#"(import "{interface}" "{function}" (func {ty}))"#)).collect();
    let refusal = Harness::start().refusal(&component("ungranted", &(text + &pass_through())));
    let LoadError::Refused(Refusal::Imports { mut names }) = refusal else { panic!("{refusal}") };
    names.first.sort();
    assert_eq!(
        names.first,
        [
            "acme:store/blobs@1.0.0",
            "bare",
            "wasi:clocks/monotonic-clock@0.3.0",
            "wasi:http/outgoing-handler@0.2.6",
            "wasi:sockets/tcp-create-socket@0.2.6",
        ]
    );
}

#[test]
fn exports_must_be_the_contracts() {
    let harness = Harness::start();
    let refusal = harness.refusal(&component("useless", r#"(func (export "run"))"#));
    assert!(refusal.to_string().ends_with("but run"), "{refusal}");
    let refusal = harness.refusal(&component_of("package a:b; world guest {}", ""));
    assert!(refusal.to_string().ends_with("but nothing at all"), "{refusal}");

    let next = "package sandmill:plugin@0.2.0; interface preprocess { preprocess: func(); } world guest { export preprocess; }";
    let refusal = harness.refusal(&component_of(next, r#"(func (export "sandmill:plugin/preprocess@0.2.0#preprocess"))"#));
    assert!(refusal.to_string().ends_with("but sandmill:plugin/preprocess@0.2.0"), "{refusal}");

    for declaration in ["preprocess: func();", "preprocess: func(x: string);", "other: func();"] {
        let wit = format!(
            "package sandmill:plugin@0.1.0; interface preprocess {{ {declaration} }} world guest {{ export preprocess; }}"
        );
        let function = declaration.split(':').next().unwrap();
        let parameters = if declaration.contains("string") { "(param i32 i32)" } else { "" };
        let text = format!(r#"(func (export "sandmill:plugin/preprocess@0.1.0#{function}") {parameters})"#);
        let refusal = harness.refusal(&component_of(&wit, &text));
        assert!(matches!(refusal, LoadError::WrongType { .. }), "{declaration}: {refusal}");
    }
}

#[test]
fn a_component_is_of_one_shape() {
    let handler = r#"(func (export "sandmill:plugin/handler@0.1.0#handle") (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32) unreachable)"#;
    let both = component("two-shapes", &format!("{handler} {}", preprocess("unreachable")));
    assert!(matches!(Harness::start().refusal(&both), LoadError::Refused(Refusal::TwoShapes)));
}

#[test]
fn sizes_have_bounds() {
    let good = useful();
    let harness = Harness::start_with(|options| options.compiling.component_bytes_max = good.len() - 1);
    assert!(matches!(harness.refusal(&good), LoadError::TooLarge { .. }));

    let harness = Harness::start();
    // The prelude's memory is two pages of 64 KiB.
    let load = |memory_bytes_max| {
        let mut options = harness::options();
        options.limits.memory_bytes_max = memory_bytes_max;
        harness.0.load(&good, options)
    };
    assert!(load(128 << 10).is_ok());
    assert!(matches!(load((128 << 10) - 1), Err(LoadError::Memory { bytes: 131_072, bytes_max: 131_071 })));
    assert!(matches!(load(harness::MEMORY_BYTES_MAX + 1), Err(LoadError::Limits { .. })));
    let tables = "(table 1 funcref)".repeat(9) + &pass_through();
    assert!(matches!(harness.refusal(&component("processor", &tables)), LoadError::Refused(Refusal::Tables { .. })));
    let table = "(table 20001 funcref)".to_owned() + &pass_through();
    let refusal = harness.refusal(&component("processor", &table));
    assert!(matches!(refusal, LoadError::Table { elements: 20_001, elements_max: 20_000 }), "{refusal}");
}

#[test]
fn options_have_bounds() {
    let good = SandboxOptions::default;
    let huge = PluginLimits { memory_bytes_max: (4 << 30) + 1, ..PluginLimits::host_default() };
    let cases = [
        ("instances_max", SandboxOptions { instances_max: 0, ..good() }),
        ("instances_max", SandboxOptions { instances_max: 4097, ..good() }),
        ("memory_bytes_max", SandboxOptions { limits: huge, ..good() }),
        ("stack_bytes_max", SandboxOptions { stack_bytes_max: 1, ..good() }),
        ("tick", SandboxOptions { tick: Duration::ZERO, ..good() }),
    ];
    for (name, options) in cases {
        let error = Sandbox::start(options).err().expect("refused").to_string();
        assert!(error.starts_with(name), "{error}");
    }
}

fn cache(folder: &Path, name: &str) -> CacheOptions {
    CacheOptions { folder: folder.join(name), key: folder.join("key"), bytes_max: 1 << 30 }
}

fn cached(folder: &Path) -> Harness {
    Harness::start_with(|options| options.cache = Some(cache(folder, "cache")))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.join("cache")).expect("the cache made its folder");
    entries.map(|entry| entry.expect("it can be listed").path()).collect()
}

async fn assert_works(harness: &Harness, component: &[u8]) {
    assert!(call(&harness.load(component), b"body", soon()).await.is_ok());
}

#[tokio::test]
async fn compiled_code_is_kept_and_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let component = useful();
    assert_works(&cached(folder.path()), &component).await;
    let [file] = files(folder.path()).try_into().unwrap();
    let written = fs::metadata(&file).unwrap();
    assert_eq!(written.permissions().mode() & 0o777, 0o600);

    let logged = harness::logged(async { assert_works(&cached(folder.path()), &component).await }).await;
    assert_eq!(files(folder.path()), std::slice::from_ref(&file));
    assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), written.modified().unwrap(), "it was compiled anew");
    assert!(!logged.contains("anew"), "{logged}");
}

#[tokio::test]
async fn a_damaged_cache_is_compiled_anew() {
    let folder = tempfile::tempdir().unwrap();
    let component = useful();
    assert_works(&cached(folder.path()), &component).await;
    let [file] = files(folder.path()).try_into().unwrap();
    let good = fs::read(&file).unwrap();
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    let foreign = Harness::start_with(|options| {
        options.cache = Some(cache(folder.path(), "other"));
        options.stack_bytes_max = 256 << 10;
    });
    assert_works(&foreign, &component).await;
    for damage in [flipped, good[..good.len() / 2].to_vec(), Vec::new(), b"\x7fELF".repeat(1000)] {
        fs::write(&file, &damage).unwrap();
        let logged = harness::logged(async { assert_works(&cached(folder.path()), &component).await }).await;
        assert!(logged.contains("is damaged or not ours, compiling anew"), "{logged}");
        assert_eq!(files(folder.path()), std::slice::from_ref(&file));
        assert_eq!(fs::read(&file).unwrap().len(), good.len(), "it is whole again");
    }
}

#[test]
fn a_cache_that_others_can_enter_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let options = SandboxOptions { cache: Some(cache(folder.path(), "")), instances_max: 1, ..SandboxOptions::default() };
    let error = Sandbox::start(options).err().expect("refused");
    assert!(matches!(error, SandboxError::Cache(CacheError::Exposed { mode: 0o755, .. })), "{error}");
}

#[tokio::test]
async fn two_sandboxes_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let components: Vec<_> = (0..4)
        .map(|number| component("processor", &(pass_through() + &format!("(data (i32.const 900) \"{number}\")"))))
        .collect();
    let harnesses = [cached(folder.path()), cached(folder.path())];
    std::thread::scope(|scope| {
        for harness in &harnesses {
            scope.spawn(|| components.iter().for_each(|component| drop(harness.load(component))));
        }
    });
    assert_eq!(files(folder.path()).len(), components.len(), "each is kept once, and no draft stays");
    for component in &components {
        assert!(harnesses[0].load(component).loaded().cached);
        assert_works(&harnesses[1], component).await;
    }
}

#[tokio::test]
async fn what_a_killed_process_has_left_is_in_nobodys_way() {
    let folder = tempfile::tempdir().unwrap();
    let component = useful();
    assert_works(&cached(folder.path()), &component).await;
    let [file] = files(folder.path()).try_into().unwrap();
    let name = file.file_name().unwrap().to_str().unwrap().to_owned();
    let half = fs::read(&file).unwrap();
    // Killed before the file was renamed, with half of it written.
    fs::remove_file(&file).unwrap();
    fs::write(file.with_file_name(format!("{name}.{}.0", std::process::id())), &half[..half.len() / 2]).unwrap();
    let harness = cached(folder.path());
    assert!(!harness.load(&component).loaded().cached);
    assert!(harness.load(&component).loaded().cached);
    assert_works(&harness, &component).await;
}

/// Kilobytes that are resident of the compiled code in the folder: of its mappings that cannot be written to.
fn resident(folder: &Path) -> usize {
    let mappings = fs::read_to_string("/proc/self/smaps").expect("Linux tells");
    let folder = folder.to_str().expect("it was made of plain letters");
    let mut ours = false;
    let mut sum = 0;
    for line in mappings.lines() {
        match line.strip_prefix("Rss:") {
            Some(rest) if ours => sum += rest.trim().trim_end_matches(" kB").parse::<usize>().expect("kilobytes"),
            _ if line.contains('-') => ours = line.contains(folder) && !line.contains("rw-p"),
            _ => {}
        }
    }
    sum
}

#[tokio::test]
async fn code_that_nobody_calls_gives_its_memory_back_and_runs_again() {
    let folder = tempfile::tempdir().unwrap();
    let harness = Harness::start_with(|options| {
        options.cache = Some(cache(folder.path(), "cache"));
        options.code_idle = Duration::from_millis(50);
    });
    let plugin = harness.load(&useful());
    for _ in 0..3 {
        assert_eq!(resident(folder.path()), 0);
        assert!(call(&plugin, b"body", soon()).await.is_ok());
        assert!(resident(folder.path()) > 0, "no mapping was found");
        let start = Instant::now();
        while resident(folder.path()) > 0 {
            assert!(start.elapsed() < Duration::from_secs(30), "it is never given back");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
