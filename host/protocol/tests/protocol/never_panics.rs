//! Whatever bytes come in, the answer is a request that fits the model or a fault of the caller's; and memory stays bounded,
//! which the shared helper asserts at each decoding.

use proptest::collection::vec;
use proptest::prelude::*;
use sandmill_domain::{Code, Dtype, ModelInfo};
use sandmill_protocol::HEADER_LENGTH;

use crate::common::{Wire, model};

const JSON: &str = concat!(
    r#"{"id":"a\u00e4","parameters":{"binary_data_output":true,"sequence_id":0},"inputs":["#,
    r#"{"name":"f","shape":[2,2],"datatype":"FP32","data":[[1.5,-2e3],[NaN,-Infinity]]},"#,
    r#"{"data":[-9223372036854775808,18],"name":"i","shape":[2],"datatype":"INT64"},"#,
    r#"{"name":"s","shape":[2],"datatype":"BYTES","data":["\ud83d\ude00",""]},"#,
    r#"{"name":"b","shape":[3],"datatype":"BOOL","parameters":{"binary_data_size":3}}],"#,
    r#""outputs":[{"name":"y","parameters":{"binary_data":false}}]}"#,
);

fn four() -> ModelInfo {
    let inputs: [(&str, Dtype, &[i64]); 4] =
        [("f", Dtype::Fp32, &[-1, -1]), ("i", Dtype::Int64, &[-1]), ("s", Dtype::Bytes, &[-1]), ("b", Dtype::Bool, &[-1])];
    model(&inputs, &[("y", Dtype::Fp32, &[1])])
}

fn one(dtype: Dtype) -> ModelInfo {
    model(&[("x", dtype, &[-1, -1])], &[])
}

/// Decodes; a request that passes must fit the model.
fn check(wire: &Wire, model: &ModelInfo) {
    match wire.decode(model) {
        Ok(request) => assert_eq!(model.signature.check_inputs(&request.inputs), Ok(())),
        Err(fault) => assert!(matches!(fault.code, Code::InvalidInput | Code::Unsupported), "{fault}"),
    }
}

/// The pieces that JSON is made of, and some that it is not.
fn soup() -> impl Strategy<Value = String> {
    const PIECES: [&str; 30] = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "\\u",
        "d83d",
        "0",
        "1",
        "-",
        ".",
        "e",
        "E",
        "+",
        "9999",
        "NaN",
        "Infinity",
        "true",
        "false",
        "null",
        "\"data\":",
        "\"shape\":",
        "\"name\":\"x\"",
        "\"datatype\":",
        " ",
        "\n",
        "ä",
    ];
    vec(proptest::sample::select(&PIECES[..]).prop_map(str::to_owned), 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn on_any_bytes(body in vec(any::<u8>(), 0..200), header in proptest::option::of("[0-9]{1,3}|[ -~]{0,20}"), dtype in proptest::sample::select(&Dtype::ALL[..])) {
        let wire = Wire { headers: Default::default(), body };
        let wire = match header {
            Some(value) => wire.with(HEADER_LENGTH, &value),
            None => wire,
        };
        check(&wire, &four());
        check(&wire, &one(dtype));
    }

    #[test]
    fn on_a_mutated_request(edits in vec((any::<prop::sample::Index>(), 0..3_u8, any::<u8>()), 1..6), cut in any::<prop::sample::Index>()) {
        let mut json = JSON.as_bytes().to_vec();
        for (at, kind, byte) in edits {
            let at = at.index(json.len());
            match kind {
                0 => json[at] = byte,
                1 => json.insert(at, byte),
                _ => drop(json.remove(at)),
            }
        }
        let length = json.len();
        let framed = Wire::json([&json[..], &[1, 0, 1]].concat()).with(HEADER_LENGTH, &length.to_string());
        check(&framed, &four());
        json.truncate(cut.index(length));
        check(&Wire::json(json), &four());
    }

    #[test]
    fn on_soup(text in soup(), dtype in proptest::sample::select(&Dtype::ALL[..])) {
        check(&Wire::json(text.clone()), &one(dtype));
        check(&crate::common::x(dtype, "[2,1]", &format!("[{text}]")), &one(dtype));
        let before = format!(r#"{{"inputs":[{{"data":[{text}],"name":"x","shape":[1,1],"datatype":"{dtype}"}}]}}"#);
        check(&Wire::json(before), &one(dtype));
    }
}

#[test]
fn the_request_that_is_mutated_is_a_good_one() {
    let request = Wire::binary(JSON, &[1, 0, 1]).decode(&four()).expect("a good request");
    assert_eq!(request.inputs.len(), 4);
}
