//! The Python package's own features and answers for every file in `tests/magika`, as far as they need no model.

use std::path::PathBuf;

use sandmill_plugin::{Prepared, testing::request};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::*;

#[derive(Deserialize)]
struct Golden {
    file: String,
    /// The SHA-256 of the tokens as little-endian i32; none if the model was not asked.
    features: Option<String>,
    label: String,
    score: f64,
}

#[test]
fn tokens_and_short_answers_are_those_of_the_package() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/magika");
    let golden: Vec<Golden> = serde_json::from_slice(&std::fs::read(folder.join("golden.json")).unwrap()).unwrap();
    assert!(golden.len() >= 40);
    for expected in golden {
        let file = std::fs::read(folder.join("files").join(&expected.file)).unwrap();
        match (preprocess(request(file)).unwrap(), expected.features) {
            (Prepared::Tensors(tensors), Some(features)) => assert_eq!(hex(&tensors[0].data), features, "{}", expected.file),
            (Prepared::Response(response), None) => {
                let answer: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
                assert_eq!((&answer["label"], &answer["score"]), (&expected.label.into(), &expected.score.into()));
            }
            (_, features) => panic!("{}: asks the model, or does not, unlike {features:?}", expected.file),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
