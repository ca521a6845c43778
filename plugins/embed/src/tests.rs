//! The whole plugin but the model, against what the Python package `tokenizers` says.

use std::path::{Path, PathBuf};

use sandmill_plugin::testing::{self, head, request};
use serde::Deserialize;
use serde_json::{Value, json};

use super::*;
use crate::pool::DIMENSIONS;
use crate::tokens::TOKENS_MAX;

#[derive(Deserialize)]
struct Golden {
    text: String,
    ids: Vec<i64>,
}

fn folder(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// As `make setup` fetches it.
pub(crate) fn tokenizer_json() -> Vec<u8> {
    let path = folder("examples/embed/tokenizer.json");
    std::fs::read(&path).unwrap_or_else(|error| panic!("{} (run `make setup`): {error}", path.display()))
}

fn ready() {
    init(testing::init(&[], &[("tokenizer.json", &tokenizer_json())])).unwrap();
}

fn golden() -> Vec<Golden> {
    serde_json::from_slice(&std::fs::read(folder("tests/embed/golden.json")).unwrap()).unwrap()
}

fn prepare(body: &Value) -> [Tensor; 3] {
    preprocess(request(body.to_string())).unwrap()
}

fn rows(tensor: &Tensor) -> Vec<Vec<i64>> {
    let width = usize::try_from(tensor.shape[1]).unwrap();
    tensor.as_i64().unwrap().chunks(width).map(<[i64]>::to_vec).collect()
}

#[test]
fn tokens_are_those_of_the_python_package() {
    ready();
    let cases = golden();
    assert!(cases.len() >= 40);
    for Golden { text, ids } in cases.into_iter().filter(|case| !case.text.is_empty()) {
        let [found, mask, types] = prepare(&json!({ "input": text }));
        assert_eq!(rows(&mask), [vec![1; ids.len()]], "{text:?}");
        assert_eq!(rows(&types), [vec![0; ids.len()]], "{text:?}");
        assert_eq!(rows(&found), [ids], "{text:?}");
    }
}

#[test]
fn a_batch_is_padded_to_its_longest_row() {
    ready();
    let cases = golden();
    let batch: Vec<_> = cases.iter().filter(|case| !case.text.is_empty() && case.ids.len() < 30).take(8).collect();
    let longest = batch.iter().map(|case| case.ids.len()).max().unwrap();
    let texts: Vec<_> = batch.iter().map(|case| case.text.as_str()).collect();
    let [ids, mask, types] = prepare(&json!({ "input": texts }));
    assert_eq!(["input_ids", "attention_mask", "token_type_ids"], [&ids, &mask, &types].map(|tensor| tensor.name.as_str()));
    let padded = |row: &[i64]| [row, &vec![0; longest - row.len()]].concat();
    assert_eq!(rows(&ids), batch.iter().map(|case| padded(&case.ids)).collect::<Vec<_>>());
    assert_eq!(rows(&mask), batch.iter().map(|case| padded(&vec![1; case.ids.len()])).collect::<Vec<_>>());
    assert_eq!(rows(&types), vec![vec![0; longest]; batch.len()]);
}

#[test]
fn a_long_text_is_cut_and_still_framed() {
    ready();
    let [ids, ..] = prepare(&json!({ "input": "word ".repeat(5000) }));
    let row = rows(&ids).remove(0);
    assert_eq!((row.len(), row[0], row[TOKENS_MAX - 1]), (TOKENS_MAX, 101, 102));
}

#[test]
fn both_sides_of_a_request_meet() {
    ready();
    let [ids, ..] = prepare(&json!({ "input": ["The cat sat on the mat", "hi"], "encoding_format": "float" }));
    let shape = [2, usize::try_from(ids.shape[1]).unwrap(), DIMENSIONS];
    assert_eq!(shape[1], 8);
    // The number of each token in its row, in the first dimension, and 1 in the second.
    let hidden = (0..shape[0] * shape[1]).flat_map(|token| {
        let number = u8::try_from(token % shape[1]).unwrap();
        (0..DIMENSIONS).map(move |dimension| [f32::from(number), 1.0].get(dimension).copied().unwrap_or_default())
    });
    let hidden = Tensor::collect("last_hidden_state", shape, hidden).unwrap();
    let answer: Value = serde_json::from_slice(&postprocess(head(), vec![hidden.clone()]).unwrap().body).unwrap();
    assert_eq!(answer["usage"], json!({ "prompt_tokens": 11, "total_tokens": 11 }));
    // Means of 3.5 over all eight tokens, and of 1 over the first three.
    for (index, mean) in [3.5_f64, 1.0].into_iter().enumerate() {
        let first = answer["data"][index]["embedding"][0].as_f64().unwrap();
        assert!((first - mean / mean.hypot(1.0)).abs() < 1e-6, "{first}");
    }
    let again = postprocess(head(), vec![hidden]).unwrap_err();
    assert_eq!(again, Error::internal("postprocess without its preprocess"));
}

#[test]
fn a_tokenizer_of_another_kind_refuses_the_deployment() {
    let start = testing::init(&[], &[("tokenizer.json", br#"{"version":"1.0","model":{"type":"BPE"}}"#)]);
    let error = init(start).unwrap_err();
    assert!(error.starts_with("tokenizer.json is not one that this plugin can use: "), "{error}");
    assert_eq!(init(testing::init(&[], &[])).unwrap_err(), "there is no asset `tokenizer.json` among []");
}
