//! Function folders, good and hostile, read through the crate's own door.

mod bundle;
mod fixture;
mod limits;
mod models;
mod providers;
mod uploads;

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::thread;
use std::time::Duration;

use http::Method;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use sandmill_catalog::{Digest, FileLimits, Plugins, read_function, read_functions};
use sandmill_domain::{
    AXIS_MAX, AxisRule, Batching, BreakerLimits, FunctionLimits, Grants, InstanceBudget, InstancePolicy, Pad, PadValue,
    PluginLimits,
};

use crate::fixture::Fixture;

/// What is told of a file, and what makes it so.
type Hostile = (&'static str, fn(&Path));

const WHOLE: &str = r#"
name = "digits-2"
methods = ["POST", "GET"]
assets = ["labels.txt", "./data/words.txt"]
[model]
path = "model.onnx"
sha256 = "9372c470eeadd5ecd9c3c74c2b3cb633f8e2f2fad799250a0f70d652b6b825e4"
batch_max = 8
axis_max = 2048
threads = 2
queue_max = 64
batching = "fixed"
batch_rows = 4
batch_delay_us = 500
[model.axes]
seq = 256
[plugin]
path = "./plugin.wasm"
[config]
threshold = "0.5"
labels = "a,b"
token = { secret = "s3cret" }
[limits]
timeout_ms = 2000
body_bytes_max = "1MiB"
concurrency_max = 10
plugin_time_ms = 50
plugin_memory_bytes_max = "8MiB"
plugin_table_elements_max = 1
plugin_tensors_max = 2
plugin_tensor_bytes_max = 3
plugin_output_bytes_max = 4096
plugin_header_bytes_max = "4KiB"
plugin_log_lines_max = 0
plugin_log_bytes_max = 0
plugin_host_calls_max = 5
plugin_init_time_ms = 6
plugin_snapshot_bytes_max = "1GiB"
[breaker]
failures_max = 7
open_ms = 8
[instances]
policy = "reuse"
requests_max = 10
seconds_max = 20
jitter_percent = 0
[grants]
wall_clock = true
monotonic_clock = true
randomness = true
asset_files = true
http = ["api.example.com:443", "[::1]"]
[grants.environment]
LANG = "C"
[sample]
method = "GET"
path = "/top?k=3"
content_type = "application/json"
body = "sample.json"
"#;

#[test]
fn a_whole_function_is_read() {
    let fixture = Fixture::new(WHOLE);
    let function = fixture.read().expect("good");
    assert_eq!((function.name.as_str(), function.folder), ("digits-2", fixture.folder()));
    assert_eq!(function.methods, [Method::POST, Method::GET]);
    let [model] = function.models.try_into().expect("one");
    assert_eq!(model.name, "model");
    assert_eq!((model.batch_max, model.axis_max, model.threads, model.queue_max), (8, 2048, Some(2), 64));
    assert_eq!(model.batching, Batching::Fixed { rows: 4, delay: Duration::from_micros(500) });
    assert_eq!(model.axes.into_iter().collect::<Vec<_>>(), [("seq".to_owned(), 256.into())]);
    assert_eq!((model.file.bytes.as_deref(), model.file.sha256), (Some(&b"model"[..]), Digest::of(b"model")));
    assert!(
        matches!(function.plugins, Plugins::One(file) if file.bytes.as_deref() == Some(b"plugin".as_slice()) && file.path.ends_with("plugin.wasm"))
    );
    let settings = function.config.iter().map(|setting| (setting.key.as_str(), setting.value.as_str(), setting.secret));
    let expected = [("labels", "a,b", false), ("threshold", "0.5", false), ("token", "s3cret", true)];
    assert_eq!(settings.collect::<Vec<_>>(), expected);
    let assets: Vec<_> = function.assets.iter().map(|asset| (asset.name.as_str(), asset.data.as_ref())).collect();
    assert_eq!(assets, [("labels.txt", &b"labels"[..]), ("data/words.txt", b"words")]);
    let limits = FunctionLimits {
        timeout: Duration::from_secs(2),
        body_bytes_max: 1 << 20,
        concurrency_max: 10,
        plugin: PluginLimits {
            time: Duration::from_millis(50),
            memory_bytes_max: 8 << 20,
            table_elements_max: 1,
            tensors_max: 2,
            tensor_bytes_max: 3,
            output_bytes_max: 4096,
            header_bytes_max: 4096,
            log_lines_max: 0,
            log_bytes_max: 0,
            host_calls_max: 5,
            init_time: Duration::from_millis(6),
            snapshot_bytes_max: 1 << 30,
        },
        breaker: BreakerLimits { failures_max: 7, open_time: Duration::from_millis(8) },
    };
    assert_eq!(function.limits, limits);
    let budget = InstanceBudget { requests_max: 10, age_max: Duration::from_secs(20), jitter_percent: 0 };
    assert_eq!(function.instances, InstancePolicy::Reuse(budget));
    let grants = Grants {
        wall_clock: true,
        monotonic_clock: true,
        randomness: true,
        environment: vec![("LANG".into(), "C".into())],
        asset_files: true,
        http: ["api.example.com:443", "::1"].map(|origin| origin.parse().expect("an origin")).into(),
    };
    assert_eq!(function.grants, grants);
    let sample = function.sample.expect("given");
    let head = sample.request.head;
    assert_eq!((head.method, head.path_rest.as_str(), head.query.as_deref()), (Method::GET, "/top", Some("k=3")));
    assert_eq!(head.headers["content-type"], "application/json");
    assert_eq!(sample.request.body, "{}");
    assert!(sample.file.is_some_and(|file| file.ends_with("digits/sample.json")));
}

#[test]
fn what_is_not_said_has_a_default() {
    let function = Fixture::new("model.path = 'model.onnx'\nsample = {}").read().expect("good");
    assert_eq!((function.name.as_str(), function.methods), ("digits", vec![Method::POST]));
    let [model] = function.models.try_into().expect("one");
    assert_eq!((model.batch_max, model.axis_max, model.threads, model.queue_max), (32, 1024, None, 128));
    assert_eq!(model.batching, Batching::Auto);
    assert!(model.axes.is_empty() && function.config.is_empty() && function.assets.is_empty());
    assert_eq!((function.limits, function.instances), (FunctionLimits::default(), InstancePolicy::Fresh));
    assert_eq!(function.grants, Grants::default());
    let request = function.sample.expect("given").request;
    assert_eq!((request.head.method, request.head.path_rest.as_str(), request.body.len()), (Method::POST, "", 0));
    assert!(matches!(function.plugins, Plugins::Sides { preprocess: None, postprocess: None }));
}

#[test]
fn axes_have_bounds_or_buckets() {
    let rule = |max: Option<i64>, buckets: &[i64], pad| AxisRule::new(max, buckets.to_vec(), pad).expect("a rule");
    let each = [("ids".to_owned(), PadValue::Whole(1)), ("mask".to_owned(), PadValue::Real(0.5))];
    let cases = [
        ("256", AxisRule::from(256)),
        ("{ max = 256 }", AxisRule::from(256)),
        ("'unbounded'", AxisRule::from(AXIS_MAX)),
        ("{ max = 'unbounded' }", AxisRule::from(AXIS_MAX)),
        ("{ buckets = [16, 32] }", rule(None, &[16, 32], None)),
        ("{ max = 32, buckets = [16, 32], pad = -1 }", rule(Some(32), &[16, 32], Some(Pad::All(PadValue::Whole(-1))))),
        ("{ buckets = [8], pad = 0.0 }", rule(None, &[8], Some(Pad::All(PadValue::Real(0.0))))),
        ("{ buckets = [8], pad = { ids = 1, mask = 0.5 } }", rule(None, &[8], Some(Pad::Each(each.into())))),
    ];
    for (written, expected) in cases {
        let manifest = format!("[model]\npath = 'model.onnx'\naxes.seq = {written}\n");
        let function = Fixture::new(&manifest).read().expect(written);
        assert_eq!(function.models[0].axes.get("seq"), Some(&expected), "{written}");
    }
}

#[test]
fn tables_that_go_together() {
    let model = "[model]\npath = 'model.onnx'\n";
    let [plugin, pre, post] = ["plugin", "preprocess", "postprocess"].map(|side| format!("[{side}]\npath = 'plugin.wasm'\n"));
    for good in [
        plugin.clone(),
        pre.clone(),
        format!("{model}{plugin}"),
        format!("{model}{pre}"),
        format!("{model}{post}"),
        format!("{model}{pre}{post}"),
    ] {
        assert!(Fixture::new(&good).read().is_ok(), "{good}");
    }
    let both = "`[plugin]` already stands for both sides: leave out one of them";
    let alone = "there is no `[model]` whose outputs it could take";
    let cases = [
        (String::new(), vec!["1: a function needs a `[model]`, a `[plugin]` that answers by itself, or both".to_owned()]),
        (post.clone(), vec![format!("1: postprocess: {alone}")]),
        (format!("{pre}{post}"), vec![format!("3: postprocess: {alone}")]),
        (format!("{model}{plugin}{pre}{post}"), vec![format!("5: preprocess: {both}"), format!("7: postprocess: {both}")]),
    ];
    for (manifest, expected) in cases {
        let expected: Vec<_> = expected.iter().map(|line| format!("digits/function.toml:{line}")).collect();
        assert_eq!(Fixture::new(&manifest).refusal(), expected, "{manifest}");
    }
}

#[test]
fn everything_wrong_is_told_at_once() {
    let manifest = "nmae = 'x'\nmethods = ['POST', 'FETCH']\n[model]\npath = 'gone.onnx'\nbatch_max = 'many'\n\
        [plugin]\npath = 'plugin.wasm'\nsha256 = '0000000000000000000000000000000000000000000000000000000000000000'\n\
        [preprocess]\n[limits]\ntimeout_ms = 0\nbody_bytes_max = '2GiB'\n[sample]\nmethod = 'GET'\nbody = '../x'\n";
    let pinned = format!(
        "8: plugin.sha256: the file has another SHA-256: {}, not 0000000000000000000000000000000000000000000000000000000000000000",
        Digest::of(b"plugin")
    );
    let expected = [
        "1: nmae: unknown key, did you mean `name`?",
        "2: methods: expected one of [GET, HEAD, POST, PUT, PATCH, DELETE], found \"FETCH\"",
        "4: model.path: `gone.onnx`: there is no such file",
        "5: model.batch_max: expected an integer, found a string",
        pinned.as_str(),
        "9: preprocess: `[plugin]` already stands for both sides: leave out one of them",
        "9: preprocess.path: this key is missing, or `from`, which names an upload",
        "11: limits.timeout_ms: expected an integer from 1 to 3600000, found 0",
        "12: limits.body_bytes_max: expected a size from 1B to 1GiB, such as 4096 or \"16MiB\", found \"2GiB\"",
        "15: sample.body: expected a file of this folder, without `..`, found \"../x\"",
    ];
    assert_eq!(Fixture::new(manifest).refusal(), expected.map(|line| format!("digits/function.toml:{line}")));
}

#[test]
fn each_value_has_its_bounds() {
    let model = "model.path = 'model.onnx'\n";
    let cases = [
        ("name = 'Digits'", "name: `Digits` is no valid name: "),
        ("name = ''", "name: `` is no valid name: "),
        ("methods = []", "methods: expected at least one method"),
        ("methods = ['GET', 'GET']", "methods: GET is given twice"),
        ("methods = ['get']", "methods: expected one of [GET, "),
        ("methods = [1]", "methods: expected a string, found an integer"),
        ("model.batch_max = 0", "model.batch_max: expected an integer from 1 to 2147483647, found 0"),
        ("model.axes.seq = -1", "model.axes.seq: expected an integer from 1 to 2147483647, found -1"),
        (
            "model.axes.seq = 'endless'",
            "model.axes.seq: expected an integer from 1 to 2147483647 or \"unbounded\", found \"endless\"",
        ),
        ("model.axes.seq = true", "model.axes.seq: expected an integer from 1 to 2147483647, \"unbounded\", or a table of"),
        ("model.axes.seq = {}", "model.axes.seq: either `max` or `buckets` must be given"),
        ("model.axes.seq = { max = 0 }", "model.axes.seq.max: expected an integer from 1 to 2147483647, found 0"),
        ("model.axes.seq = { buckets = [] }", "model.axes.seq: either `max` or `buckets` must be given"),
        ("model.axes.seq = { buckets = [0] }", "model.axes.seq.buckets: expected an integer from 1 to 2147483647, found 0"),
        ("model.axes.seq = { buckets = [2, 1] }", "model.axes.seq: the `buckets` must be sizes from 1 that ascend"),
        ("model.axes.seq = { max = 9, buckets = [8] }", "model.axes.seq: the last of the `buckets` must be as large as `max`"),
        ("model.axes.seq = { max = 9, pad = 0 }", "model.axes.seq: to pad takes `buckets` to pad to"),
        ("model.axes.seq = { buckets = [8], pad = 'x' }", "model.axes.seq.pad: expected a number, or a table of numbers by"),
        ("model.axes.seq = { buckets = [8], pad = { x = '' } }", "model.axes.seq.pad.x: expected a number, found a string"),
        ("model.axes.seq = { bucket = [8] }", "model.axes.seq.bucket: unknown key, did you mean `buckets`?"),
        ("model.threads = 257", "model.threads: expected an integer from 1 to 256, found 257"),
        ("model.queue_max = 0", "model.queue_max: expected an integer from 1 to 65536, found 0"),
        ("model.batching = 'always'", "model.batching: "),
        ("model.batch_rows = 8", "model.batch_rows: it takes `batching = \"fixed\"`"),
        ("model.batch_delay_us = 8", "model.batch_delay_us: it takes `batching = \"fixed\"`"),
        ("model.sha256 = 'abc'", "model.sha256: expected a SHA-256: 64 hexadecimal digits"),
        ("sample.path = 'top'", "sample.path: expected what follows the function's name, "),
        ("sample.path = '/a b'", "sample.path: expected what follows the function's name, "),
        ("sample.content_type = \"a\\nb\"", "sample.content_type: expected a media type, found "),
        ("sample.method = 'GET'", "sample.method: the function does not answer GET: its methods are [POST]"),
        ("plugin.path = ''", "plugin.path: expected a file of this folder, without `..`, found \"\""),
        ("plugin.path = '/etc/passwd'", "plugin.path: expected a file of this folder, without `..`, found \"/etc/passwd\""),
        ("plugin.path = 'a/../../b'", "plugin.path: expected a file of this folder, without `..`, found \"a/../../b\""),
    ];
    for (line, expected) in cases {
        let told = Fixture::new(format!("{model}{line}")).refusal();
        let expected = format!("digits/function.toml:2: {expected}");
        assert!(told.len() == 1 && told[0].starts_with(&expected), "{told:?} is not {expected:?}");
    }
}

#[test]
fn fixed_batches_have_bounds() {
    let told = |line: &str| Fixture::new(format!("model.path = 'model.onnx'\nmodel.batching = 'fixed'\n{line}")).refusal();
    assert_eq!(
        told("model.batch_rows = 1025"),
        ["digits/function.toml:3: model.batch_rows: expected an integer from 1 to 1024, found 1025"]
    );
    let late = "digits/function.toml:3: model.batch_delay_us: expected an integer from 0 to 1000000, found 1000001";
    assert_eq!(told("model.batch_delay_us = 1000001"), [late]);
}

#[test]
fn a_broken_document_is_told_with_its_line() {
    let cases: [(&[u8], &str); 3] = [
        (b"name = 'x'\n[model\n", "digits/function.toml:2: "),
        (b"name = 'x'\n# \xff\n", "digits/function.toml:2: this is not UTF-8"),
        (&[b'#'; (256 << 10) + 1], "digits/function.toml: has 262145 bytes, more than the 262144 that are allowed"),
    ];
    for (manifest, expected) in cases {
        let told = Fixture::new(manifest).refusal();
        assert!(told.len() == 1 && told[0].starts_with(expected), "{told:?} is not {expected:?}");
    }
}

#[test]
fn hostile_files_are_refused_by_key() {
    let prepare: [Hostile; 5] = [
        ("is no regular file", |file| mknodat(CWD, file, FileType::Fifo, Mode::RUSR, 0).expect("a pipe without a writer")),
        ("is no regular file", |file| fs::create_dir(file).expect("made")),
        ("leads out of the folder through a symbolic link", |file| symlink("/etc/passwd", file).expect("linked")),
        ("there is no such file", |file| symlink("gone", file).expect("linked")),
        ("has 1099511627776 bytes, more than the ", |file| {
            File::create(file).and_then(|file| file.set_len(1 << 40)).expect("sparse")
        }),
    ];
    let manifest = "[model]\npath = 'model.onnx'\n[plugin]\npath = 'plugin.wasm'\n[sample]\nbody = 'sample.json'";
    let manifest = format!("assets = [\n'labels.txt']\n{manifest}");
    let files = [
        ("2: assets", "labels.txt"),
        ("4: model.path", "model.onnx"),
        ("6: plugin.path", "plugin.wasm"),
        ("8: sample.body", "sample.json"),
    ];
    for (expected, prepare) in prepare {
        for (key, name) in files {
            let fixture = Fixture::new(&manifest);
            fs::remove_file(fixture.folder().join(name)).expect("removed");
            prepare(&fixture.folder().join(name));
            let told = fixture.refusal();
            let expected = format!("digits/function.toml:{key}: `{name}`: {expected}");
            assert!(told.len() == 1 && told[0].starts_with(&expected), "{told:?} is not {expected:?}");
        }
    }
}

#[test]
fn the_manifest_itself_may_be_hostile() {
    let prepare: [Hostile; 3] = [
        ("is no regular file", |file| mknodat(CWD, file, FileType::Fifo, Mode::RUSR, 0).expect("a pipe without a writer")),
        ("leads out of the folder", |file| symlink("/etc/passwd", file).expect("linked")),
        ("has 1099511627776 bytes", |file| File::create(file).and_then(|file| file.set_len(1 << 40)).expect("sparse")),
    ];
    for (expected, prepare) in prepare {
        let fixture = Fixture::new("");
        let file = fixture.folder().join("function.toml");
        fs::remove_file(&file).expect("removed");
        prepare(&file);
        let told = fixture.refusal();
        assert!(told[0].starts_with(&format!("digits/function.toml: {expected}")), "{told:?}");
    }
}

#[test]
fn files_may_be_as_large_as_the_limits_say() {
    let fixture = Fixture::new("model.path = 'model.onnx'\nplugin.path = 'plugin.wasm'");
    let at =
        FileLimits { model_bytes_max: 5, component_bytes_max: 6, assets_bytes_max: 0, functions_max: 1, ..FileLimits::default() };
    assert!(read_functions(&[fixture.folder()], &at).is_ok());
    let below =
        FileLimits { model_bytes_max: 4, component_bytes_max: 5, assets_bytes_max: 0, functions_max: 1, ..FileLimits::default() };
    let told = fixture.told(&read_function(&fixture.folder(), &below).expect_err("too large"));
    let expected = [
        "digits/function.toml:1: model.path: `model.onnx`: has 5 bytes, more than the 4 that are allowed",
        "digits/function.toml:2: plugin.path: `plugin.wasm`: has 6 bytes, more than the 5 that are allowed",
    ];
    assert_eq!(told, expected);
    fs::write(
        fixture.folder().join("function.toml"),
        "[plugin]\npath = 'plugin.wasm'\n[limits]\nbody_bytes_max = 1\n[sample]\nbody = 'sample.json'",
    )
    .expect("written");
    assert_eq!(
        fixture.refusal(),
        ["digits/function.toml:6: sample.body: `sample.json`: has 2 bytes, more than the 1 that are allowed"]
    );
}

#[test]
fn a_folder_whose_name_is_no_function_name_needs_one() {
    let fixture = Fixture::new("");
    let folder = fixture.add("My_Function", "model.path = 'model.onnx'");
    let error = read_function(&folder, &FileLimits::default()).expect_err("no name");
    let told = fixture.told(&error);
    assert!(
        told[0].starts_with("My_Function/function.toml:1: name: not given, and the folder's own does not serve: `My_Function`")
    );
    fs::write(folder.join("function.toml"), "name = 'mine'\nmodel.path = 'model.onnx'").expect("written");
    assert!(read_function(&folder, &FileLimits::default()).is_ok());
}

#[test]
fn folders_of_folders_are_read_in_order() {
    let fixture = Fixture::new("model.path = 'model.onnx'");
    fixture.add("angle", "model.path = 'model.onnx'");
    fixture.add(".hidden", "broken");
    fs::create_dir(fixture.root().join("docs")).expect("made");
    fs::write(fixture.root().join("README"), "x").expect("written");
    let functions = read_functions(&[fixture.root()], &FileLimits::default()).expect("good");
    assert_eq!(functions.iter().map(|function| function.name.as_str()).collect::<Vec<_>>(), ["angle", "digits"]);
    assert!(read_functions(&[], &FileLimits::default()).is_ok_and(|functions| functions.is_empty()));
}

#[test]
fn all_folders_are_refused_at_once() {
    let fixture = Fixture::new("x = 1");
    let angle = fixture.add("angle", "name = 'same'\nmodel.path = 'model.onnx'");
    let other = fixture.add("other", "name = 'same'\nmodel.path = 'model.onnx'");
    let empty = fixture.root().join("empty");
    fs::create_dir(&empty).expect("made");
    let folders = [fixture.folder(), angle, other, empty, fixture.root().join("none"), fixture.root().join("angle/model.onnx")];
    let errors = read_functions(&folders, &FileLimits::default()).expect_err("bad");
    let told: Vec<_> = errors.iter().flat_map(|error| fixture.told(error)).collect();
    let expected = [
        "empty: no `function.toml` here, nor in a folder below; a function's folder holds `function.toml` and the model and plugin \
            that it names",
        "none: there is no such folder",
        "angle/model.onnx: is no folder: give the folder that holds `function.toml`",
        "digits/function.toml:1: a function needs a `[model]`, a `[plugin]` that answers by itself, or both",
        "digits/function.toml:1: x: unknown key; there are name, methods, assets, model, models, plugin, \
            preprocess, postprocess, config, limits, breaker, instances, grants, sample",
        "other: the name `same` is already taken by the function in angle",
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_folder_that_may_not_be_looked_into_is_not_passed_over() {
    let fixture = Fixture::new("model.path = 'model.onnx'");
    let closed = fixture.add("closed", "model.path = 'model.onnx'");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).expect("changed");
    let root = fixture.root();
    // The superuser may read everything, but for a thread that gives this up.
    let read = thread::spawn(move || {
        let mut sets = capabilities(None).expect("known");
        sets.effective -= CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
        set_capabilities(None, sets).expect("given up");
        read_functions(&[root], &FileLimits::default())
    });
    let errors = read.join().expect("no panic").expect_err("closed");
    // So that the fixture can be removed.
    fs::set_permissions(closed, fs::Permissions::from_mode(0o700)).expect("changed");
    assert_eq!(fixture.told(&errors[0]), ["closed/function.toml: may not be read by this user: check its permissions"]);
}

#[test]
fn models_beyond_what_is_kept_are_read_when_they_are_loaded() {
    let fixture = Fixture::new("model.path = 'model.onnx'");
    fixture.add("angle", "model.path = 'model.onnx'");
    let functions = |kept_bytes_max| {
        let limits = FileLimits { kept_bytes_max, ..FileLimits::default() };
        read_functions(&[fixture.root()], &limits).expect("they are good")
    };
    for (kept_bytes_max, expected) in [(10, [true, true]), (9, [true, false]), (4, [false, false])] {
        let functions = functions(kept_bytes_max);
        let files: Vec<_> = functions.iter().map(|function| &function.models[0].file).collect();
        assert_eq!(files.iter().map(|file| file.bytes.is_some()).collect::<Vec<_>>(), expected, "{kept_bytes_max}");
        assert!(files.iter().all(|file| file.read().expect("there") == "model"));
    }
}

#[test]
fn functions_are_counted() {
    let fixture = Fixture::new("model.path = 'model.onnx'");
    fixture.add("angle", "model.path = 'model.onnx'");
    let limits = |functions_max| FileLimits { functions_max, ..FileLimits::default() };
    assert!(read_functions(&[fixture.root()], &limits(2)).is_ok());
    let errors = read_functions(&[fixture.root()], &limits(1)).expect_err("one too many");
    assert_eq!(fixture.told(&errors[0]), ["digits: this is one function too many: there may be 1"]);
}
