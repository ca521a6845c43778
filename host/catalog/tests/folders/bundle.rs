//! What a function hands its plugin: assets, settings and secrets.

use std::fs::{self, File};
use std::os::unix::fs::symlink;

use sandmill_catalog::{FileLimits, read_function};

use crate::fixture::{Fixture, refused, refused_below};

const MODEL: &str = "model.path = 'model.onnx'";
const VALUE: &str = "expected a string, `{ secret = \"…\" }` or `{ secret_env = \"NAME\" }`, found ";

#[test]
fn assets_are_named_as_their_path() {
    let fixture = Fixture::new(format!("assets = ['.//data/./words.txt', 'linked.txt', 'labels.txt']\n{MODEL}"));
    symlink("data/words.txt", fixture.folder().join("linked.txt")).expect("linked");
    let assets = fixture.read().expect("good").assets;
    let pairs: Vec<_> = assets.iter().map(|asset| (asset.name.as_str(), asset.data.as_ref())).collect();
    assert_eq!(pairs, [("data/words.txt", &b"words"[..]), ("linked.txt", b"words"), ("labels.txt", b"labels")]);
}

#[test]
fn assets_are_files_of_the_folder() {
    let inside = "assets: expected a file of this folder, without `..`, found ";
    let cases = [
        ("assets = 'labels.txt'", "assets: expected an array, found a string".to_owned()),
        ("assets = [1]", "assets: expected a string, found an integer".to_owned()),
        ("assets = [{}]", "assets: expected a string, found a table".to_owned()),
        ("assets = { a = 'labels.txt' }", "assets: expected an array, found a table".to_owned()),
        ("assets = ['../labels.txt']", format!("{inside}\"../labels.txt\"")),
        ("assets = ['data/../../x']", format!("{inside}\"data/../../x\"")),
        ("assets = ['/etc/passwd']", format!("{inside}\"/etc/passwd\"")),
        ("assets = ['']", format!("{inside}\"\"")),
        ("assets = ['.']", format!("{inside}\".\"")),
        ("assets = ['gone']", "assets: `gone`: there is no such file".to_owned()),
        ("assets = ['data']", "assets: `data`: is no regular file".to_owned()),
        ("assets = ['labels.txt/']", "assets: `labels.txt/`: cannot be read: ".to_owned()),
        ("assets = [\"a\\u0000b\"]", "assets: `a\u{0}b`: cannot be read: ".to_owned()),
        ("assets = ['labels.txt', './labels.txt']", "assets: `labels.txt` is given twice".to_owned()),
    ];
    for (line, expected) in cases {
        refused_below(MODEL, line, &expected);
    }
}

#[test]
fn assets_may_not_be_links_out() {
    let fixture = Fixture::new(format!("assets = ['far', 'out/labels.txt']\n{MODEL}"));
    let other = fixture.add("other", "");
    symlink("/etc/passwd", fixture.folder().join("far")).expect("linked");
    symlink(other, fixture.folder().join("out")).expect("linked");
    let out = "leads out of the folder through a symbolic link: put the file itself into the folder";
    let told = ["far", "out/labels.txt"].map(|name| format!("digits/function.toml:1: assets: `{name}`: {out}"));
    assert_eq!(fixture.refusal(), told);
}

#[test]
fn each_asset_has_its_line() {
    let manifest = format!("assets = [\n'gone',\n'labels.txt',\n'lost',\n'data/../labels.txt',\n]\n{MODEL}");
    refused(&manifest, ["5: assets: expected a file of this folder, without `..`, found \"data/../labels.txt\""]);
    let manifest = format!("assets = [\n'gone',\n'labels.txt',\n'lost',\n'./labels.txt',\n'gone',\n]\n{MODEL}");
    refused(
        &manifest,
        [
            "2: assets: `gone`: there is no such file",
            "4: assets: `lost`: there is no such file",
            "5: assets: `labels.txt` is given twice",
            "6: assets: `gone` is given twice",
        ],
    );
}

#[test]
fn assets_are_bounded_in_number_and_together() {
    let names = |count| (0..count).map(|at| format!("'{at}.txt'")).collect::<Vec<_>>().join(", ");
    let fixture = Fixture::new(format!("assets = [{}]\n{MODEL}", names(64)));
    for at in 0..64 {
        fs::write(fixture.folder().join(format!("{at}.txt")), "x").expect("written");
    }
    assert_eq!(fixture.read().expect("good").assets.len(), 64);
    refused(&format!("{MODEL}\nassets = [{}]", names(65)), ["2: assets: expected at most 64 files, found 65"]);

    let fixture = Fixture::new(format!("assets = ['data/words.txt', 'labels.txt']\n{MODEL}"));
    let told = |assets_bytes_max| {
        let limits = FileLimits { assets_bytes_max, ..FileLimits::default() };
        read_function(&fixture.folder(), &limits).map_or_else(|error| fixture.told(&error), |_| Vec::new())
    };
    assert!(told(11).is_empty());
    let beyond = "has 6 bytes, more than the 5 that the assets before it leave of 10";
    assert_eq!(told(10), [format!("digits/function.toml:1: assets: `labels.txt`: {beyond}")]);
    let each = [("data/words.txt", 5), ("labels.txt", 6)];
    let each = each.map(|(name, bytes)| format!("assets: `{name}`: has {bytes} bytes, more than the 4 that are allowed"));
    assert_eq!(told(4), each.map(|line| format!("digits/function.toml:1: {line}")));
    File::create(fixture.folder().join("labels.txt")).and_then(|file| file.set_len((64 << 20) + 1)).expect("sparse");
    assert_eq!(fixture.refusal().len(), 1);
}

#[test]
fn settings_are_texts_or_secrets() {
    // Set by .cargo/config.toml.
    let manifest = format!("{MODEL}\n[config]\nb = 'x'\na = {{ secret = 's3cret' }}\nc.secret_env = 'TEST'");
    let function = Fixture::new(manifest).read().expect("good");
    let settings: Vec<_> = function.config.iter().map(|own| (own.key.as_str(), own.value.as_str(), own.secret)).collect();
    assert_eq!(settings, [("a", "s3cret", true), ("b", "x", false), ("c", "hush", true)]);
    let shown = format!("{function:?}");
    assert!(shown.contains("(secret)") && !shown.contains("s3cret") && !shown.contains("hush"), "{shown}");
}

#[test]
fn settings_of_other_types_are_refused() {
    let cases = [
        ("config.a = 0.5", format!("config.a: {VALUE}a float")),
        ("config.a = true", format!("config.a: {VALUE}a boolean")),
        ("config.a = ['x']", format!("config.a: {VALUE}an array")),
        ("config.a = {}", "config.a: expected either `secret` or `secret_env`".to_owned()),
        ("config.a = { secret = 'x', secret_env = 'HOME' }", "config.a: expected either `secret` or `secret_env`".to_owned()),
        ("config.a = { secret = 5 }", "config.a.secret: expected a string, found an integer".to_owned()),
        ("config.a = { secret_env = ['x'] }", "config.a.secret_env: expected a string, found an array".to_owned()),
        ("config.a = { secert = 'x' }", "config.a.secert: unknown key, did you mean `secret`?".to_owned()),
        ("config.a = { file = 'x' }", "config.a.file: unknown key; there are secret, secret_env".to_owned()),
        ("config = 'x'", "config: expected a table, found a string".to_owned()),
        (
            "config.a = { secret_env = 'PATH' }",
            "config.a.secret_env: the server's environment has no variable \"SANDMILL_SECRET_PATH\"".to_owned(),
        ),
    ];
    for (line, expected) in cases {
        refused_below(MODEL, line, &expected);
    }
}

#[test]
fn a_secret_is_told_to_nobody() {
    let name = "expected the name of an environment variable: not empty, without `=` and NUL";
    for (line, expected) in [
        ("config.a = { secret = 's3cret', x = 1 }", "config.a.x: unknown key; there are secret, secret_env"),
        // Whoever takes the name for the value.
        ("config.a = { secret_env = 's3cret==' }", &format!("config.a.secret_env: {name}")),
        ("config.a = { secret_env = '' }", &format!("config.a.secret_env: {name}")),
        ("config.a = { secret_env = \"s3cret\\u0000\" }", &format!("config.a.secret_env: {name}")),
    ] {
        refused(&format!("{MODEL}\n{line}"), [format!("2: {expected}")]);
    }
    let told = Fixture::new(format!("{MODEL}\nconfig.a = {{ secret = 's3cret")).refusal();
    assert!(!told.concat().contains("s3cret"), "{told:?}");
}
