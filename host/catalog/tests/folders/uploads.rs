//! `from`: what a function folder names of a tenant's uploads.

use std::fs;

use sandmill_catalog::{Digest, FileLimits, UploadKind, Uploads, named_uploads, read_function};

use crate::fixture::{Fixture, refused, refused_below};

const BOTH: &str = "[model]\nfrom = 'digits@1'\n[plugin]\nfrom = 'resize@1.2.0'\n";

#[test]
fn exactly_one_of_path_and_from_is_given() {
    let missing = "this key is missing, or `from`, which names an upload";
    let both = "`path` and `from` exclude each other: leave out one of them";
    let plugin = "plugin.path = 'plugin.wasm'\n";
    refused("[model]", [format!("1: model.path: {missing}")]);
    refused(
        "[plugin]\nsha256 = '00'",
        [format!("1: plugin.path: {missing}"), "2: plugin.sha256: expected a SHA-256: 64 hexadecimal digits".to_owned()],
    );
    for table in ["model", "preprocess"] {
        let manifest = format!("[{table}]\npath = 'model.onnx'\nfrom = 'a@1'");
        refused(&manifest, [format!("3: {table}.from: {both}")]);
    }
    refused(&format!("{plugin}models.a = {{ path = 'model.onnx', from = 'a@1' }}"), [format!("2: models.a.from: {both}")]);
    // Also of one that is wrong in itself.
    refused(
        "[model]\npath = 'model.onnx'\nfrom = 'a'",
        [format!("3: model.from: {both}"), format!("3: model.from: {}", form("a"))],
    );
}

fn form(found: &str) -> String {
    format!("expected `name@version` or `sha256:` and 64 hexadecimal digits, found {found:?}")
}

#[test]
fn what_is_no_name_of_an_upload_is_told() {
    let cases = [
        ("from = 1", "model.from: expected a string, found an integer".to_owned()),
        ("from = 'digits'", format!("model.from: {}", form("digits"))),
        ("from = 'digits@'", "model.from: `` does not serve: lower-case letters, digits".to_owned()),
        ("from = 'Digits@1'", "model.from: `Digits` does not serve".to_owned()),
        ("from = '../x@1'", "model.from: `../x` does not serve".to_owned()),
        ("from = 'sha256:12'", "model.from: expected a SHA-256: 64 hexadecimal digits".to_owned()),
    ];
    for (line, expected) in cases {
        refused_below("[model]", line, &expected);
    }
}

#[test]
fn a_folder_of_ones_own_has_no_uploads() {
    let of = |kind: &str| {
        format!(
            "it names a {kind} that was uploaded to a control plane, which alone can look it up: give its file with `path`, or \
             deploy this function there"
        )
    };
    refused(BOTH, [format!("2: model.from: {}", of("model")), format!("4: plugin.from: {}", of("plugin"))]);
    // Also if it lies there.
    let fixture = Fixture::new("model.from = 'digits@1'");
    fixture.put("digits/.from/models/digits@1/model.onnx", "model");
    assert_eq!(fixture.refusal(), [format!("digits/function.toml:1: model.from: {}", of("model"))]);
}

#[test]
fn what_is_named_is_found_and_read_where_it_was_put() {
    let digest = Digest::of(b"words");
    let manifest = format!("{BOTH}sha256 = '{}'\n", Digest::of(b"component"))
        .replace("[model]", "assets = ['.from/models/digits@1/labels.txt']\n[models.b]")
        + &format!("[models.a]\nfrom = 'sha256:{digest}'\n");
    let fixture = Fixture::new(&manifest);
    let named = named_uploads(&fixture.folder()).expect("nothing lies there yet");
    let told: Vec<_> = named.iter().map(|named| (named.kind, named.name.to_string(), named.place.line)).collect();
    let expected = [
        (UploadKind::Plugin, "resize@1.2.0".to_owned(), 5),
        (UploadKind::Model, format!("sha256:{digest}"), 8),
        (UploadKind::Model, "digits@1".to_owned(), 3),
    ];
    assert_eq!(told, expected);
    assert_eq!(named[0].refuse("there is no such thing").to_string(), "function.toml:5: plugin.from: there is no such thing");
    let files = [("digits@1/model.onnx", "one"), ("digits@1/labels.txt", "labels"), ("sha256:DIGEST/model.onnx", "words")];
    for (path, content) in files {
        fixture.put(&format!("digits/.from/models/{}", path.replace("DIGEST", &digest.to_string())), content);
    }
    fixture.put("digits/.from/plugins/resize@1.2.0/plugin.wasm", "component");
    let limits = FileLimits { uploads: Uploads::Placed, ..FileLimits::default() };
    let function = read_function(&fixture.folder(), &limits).expect("good");
    let read: Vec<_> = function.models.iter().map(|model| (model.name.as_str(), model.file.read().expect("there"))).collect();
    assert_eq!(read, [("b", "one".into()), ("a", "words".into())]);
    let paths: Vec<_> = function.files.keys().map(String::as_str).collect();
    let by_digest = format!(".from/models/sha256:{digest}/model.onnx");
    let expected = [
        ".from/models/digits@1/labels.txt",
        ".from/models/digits@1/model.onnx",
        by_digest.as_str(),
        ".from/plugins/resize@1.2.0/plugin.wasm",
    ];
    assert_eq!(paths, expected);
    // What a stranger has put there is not taken for it.
    let told = fixture.told(&named_uploads(&fixture.folder()).expect_err("it is refused"));
    assert_eq!(told, ["digits/.from: is where what `from` names is put: leave it out of what you send"]);
}

#[test]
fn a_manifest_that_is_wrong_names_what_it_can() {
    for (manifest, names) in [
        ("model.from = 'a@1'\nplugin.from = 'b'\nnmae = 1", &["a@1"][..]),
        ("model.from = 'a@1'\nmodel.path = 'model.onnx'", &["a@1"]),
        ("model = 1", &[]),
        ("[model", &[]),
    ] {
        let named = named_uploads(&Fixture::new(manifest).folder()).expect(manifest);
        assert_eq!(named.iter().map(|named| named.name.to_string()).collect::<Vec<_>>(), names, "{manifest}");
    }
    let fixture = Fixture::new("");
    fs::remove_file(fixture.folder().join("function.toml")).expect("removed");
    assert_eq!(named_uploads(&fixture.folder()), Ok(Vec::new()));
}

#[test]
fn what_is_named_is_not_packed() {
    let manifest = "assets = ['labels.txt', '.from/models/digits@1/words.txt']\nmodel.from = 'digits@1'\n[plugin]\npath = 'plugin.wasm'\n[preprocess]\nfrom = 'x'";
    let limits = FileLimits { uploads: Uploads::Unread, ..FileLimits::default() };
    let read = |manifest: &str| read_function(&Fixture::new(manifest).folder(), &limits);
    assert!(read(manifest).is_err(), "what is wrong is told all the same");
    let manifest = manifest.split("[preprocess]").next().expect("the first part");
    let fixture = Fixture::new(format!("{manifest}sha256 = '{}'", Digest::of(b"plugin")));
    let function = read_function(&fixture.folder(), &limits).expect("good");
    assert_eq!(function.files.keys().collect::<Vec<_>>(), ["labels.txt", "plugin.wasm"]);
    assert!(function.models[0].file.bytes.is_none());
}
