//! Requests that must pass, in all forms that clients send.

use bytes::Bytes;
use half::{bf16, f16};
use sandmill_domain::{Advice, Buffer, Code, Dtype, Fault, Lender, Tensor};
use sandmill_protocol::{HEADER_LENGTH, Wanted, WantedOutput};

use crate::common::{Wire, model, only_input, pair_model, x};

/// `data` as an input of that type must become these bytes.
fn check(dtype: Dtype, shape: &str, data: &str, expected: &[u8]) {
    let rank = shape.split(',').filter(|axis| *axis != "[]").count();
    let wire = x(dtype, shape, data);
    let tensor = only_input(&wire, &model(&[("x", dtype, &vec![-1; rank])], &[]));
    assert_eq!(tensor.data, expected, "{dtype} {shape} {data}");
}

fn all<const N: usize>(elements: &[[u8; N]]) -> Vec<u8> {
    elements.concat()
}

#[test]
fn every_type_takes_its_whole_range() {
    check(Dtype::Bool, "[3]", "[true,false,true]", &[1, 0, 1]);
    check(Dtype::Uint8, "[2]", "[0,255]", &[0, 255]);
    check(Dtype::Uint16, "[2]", "[0,65535]", &all(&[0_u16, u16::MAX].map(u16::to_le_bytes)));
    check(Dtype::Uint32, "[1]", "[4294967295]", &u32::MAX.to_le_bytes());
    check(
        Dtype::Uint64,
        "[2]",
        "[9007199254740993,18446744073709551615]",
        &all(&[9_007_199_254_740_993, u64::MAX].map(u64::to_le_bytes)),
    );
    check(Dtype::Int8, "[3]", "[-128,-0,127]", &[128, 0, 127]);
    check(Dtype::Int16, "[2]", "[-32768,32767]", &all(&[i16::MIN, i16::MAX].map(i16::to_le_bytes)));
    check(Dtype::Int32, "[1]", "[-2147483648]", &i32::MIN.to_le_bytes());
    let longs = [i64::MIN, -9_007_199_254_740_993, i64::MAX];
    check(
        Dtype::Int64,
        "[3]",
        "[-9223372036854775808,-9007199254740993,9223372036854775807]",
        &all(&longs.map(i64::to_le_bytes)),
    );
    check(Dtype::Fp16, "[2]", "[0.5,65504]", &all(&[f16::from_f32(0.5), f16::MAX].map(f16::to_le_bytes)));
    check(Dtype::Bf16, "[2]", "[0.5,3.3895314e38]", &all(&[bf16::from_f32(0.5), bf16::MAX].map(bf16::to_le_bytes)));
    check(
        Dtype::Fp32,
        "[4]",
        "[0,-0.0,1e-45,3.4028235e38]",
        &all(&[0.0, -0.0, f32::from_bits(1), f32::MAX].map(f32::to_le_bytes)),
    );
    check(Dtype::Fp64, "[2]", "[0.1,1.7976931348623157e308]", &all(&[0.1, f64::MAX].map(f64::to_le_bytes)));
    check(
        Dtype::Bytes,
        "[3]",
        r#"["","ä\n\u00e4","😀\ud83d\ude00"]"#,
        b"\0\0\0\0\x05\0\0\0\xc3\xa4\n\xc3\xa4\x08\0\0\0\xf0\x9f\x98\x80\xf0\x9f\x98\x80",
    );
}

/// What Python's json module writes.
#[test]
fn what_is_no_number_has_tokens() {
    let floats = "[NaN,Infinity,-Infinity]";
    check(Dtype::Fp64, "[3]", floats, &all(&[f64::NAN, f64::INFINITY, f64::NEG_INFINITY].map(f64::to_le_bytes)));
    check(Dtype::Fp32, "[3]", floats, &all(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY].map(f32::to_le_bytes)));
    check(Dtype::Fp16, "[3]", floats, &all(&[f16::NAN, f16::INFINITY, f16::NEG_INFINITY].map(f16::to_le_bytes)));
    check(Dtype::Bf16, "[3]", floats, &all(&[bf16::NAN, bf16::INFINITY, bf16::NEG_INFINITY].map(bf16::to_le_bytes)));
}

/// This decimal lies above the middle of two floats by less than a double can tell.
#[test]
fn a_float_is_rounded_once() {
    check(Dtype::Fp32, "[1]", "[1.000000059604644775390626]", &1.000_000_1_f32.to_le_bytes());
}

#[test]
fn data_is_flat_or_nested() {
    let six: Vec<u8> = (1..=6).collect();
    for data in ["[1,2,3,4,5,6]", "[[1,2,3],[4,5,6]]", " [ [ 1 , 2 , 3 ] ,\n[4,5,6] ] "] {
        check(Dtype::Uint8, "[2,3]", data, &six);
    }
    check(Dtype::Uint8, "[1,2,3]", "[[[1,2,3],[4,5,6]]]", &six);
    check(Dtype::Uint8, "[]", "[7]", &[7]);
    for (shape, data) in [("[0]", "[]"), ("[0,3]", "[]"), ("[2,0]", "[]"), ("[2,0]", "[[],[]]"), ("[0,0]", "[]")] {
        check(Dtype::Uint8, shape, data, &[]);
    }
    check(Dtype::Bytes, "[0]", "[]", &[]);
    check(Dtype::Bytes, "[2,1]", r#"[["a"],["b"]]"#, b"\x01\0\0\0a\x01\0\0\0b");
}

#[test]
fn members_come_in_any_order() {
    let expected = Tensor {
        name: "x".into(),
        dtype: Dtype::Fp32,
        shape: vec![1, 2],
        data: Bytes::from(all(&[1_f32, 2.0].map(f32::to_le_bytes))),
    };
    for json in [
        r#"{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]}"#,
        r#" {"inputs" : [ {"data" : [ [1.0,2] ], "parameters":null, "datatype":"FP32","shape":[1,2],"name":"x"} ] } "#,
        r#"{"id":null,"parameters":null,"outputs":null,"inputs":[{"name":"x","shape":[1,2],"data":[1,2],"datatype":"FP32"}]}"#,
        r#"{"outputs":[],"model_name":"m","inputs":[{"name":"\u0078","datatype":"FP32","shape":[1,2],"data":[1,2],"extra":{}}]}"#,
    ] {
        assert_eq!(only_input(&Wire::json(json), &pair_model()), expected, "{json}");
    }
    let whole = Wire::json(r#"{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]}"#).with(HEADER_LENGTH, "70");
    assert_eq!(only_input(&whole, &pair_model()), expected);
}

#[test]
fn a_reply_is_wanted_as_the_request_says() {
    let (y, s) = (0, 1);
    let cases = [
        ("", vec![(y, false), (s, false)]),
        (r#","parameters":{"binary_data_output":true}"#, vec![(y, true), (s, true)]),
        (r#","outputs":[],"parameters":{"binary_data_output":true}"#, vec![(y, true), (s, true)]),
        (r#","outputs":[{"name":"s"},{"name":"y","parameters":{"binary_data":true}}]"#, vec![(s, false), (y, true)]),
        (
            r#","outputs":[{"name":"s","parameters":{"binary_data":false}},{"name":"y"}],"parameters":{"binary_data_output":true}"#,
            vec![(s, false), (y, true)],
        ),
        (r#","outputs":[{"name":"s","parameters":{"classification":0}}]"#, vec![(s, false)]),
    ];
    for (members, expected) in cases {
        let input = r#"{"name":"x","shape":[0,2],"datatype":"FP32","data":[]}"#;
        let json = format!(r#"{{"id":"4\n2","inputs":[{input}]{members}}}"#);
        let request = Wire::json(json).decode(&pair_model()).expect("a good request");
        let outputs = expected.into_iter().map(|(position, binary)| WantedOutput { position, binary }).collect();
        assert_eq!(request.wanted, Wanted { id: Some("4\n2".into()), outputs }, "{members}");
    }
    let longest = "i".repeat(1024);
    let json = format!(r#"{{"id":"{longest}","inputs":[{{"name":"x","shape":[0,2],"datatype":"FP32","data":[]}}]}}"#);
    assert_eq!(Wire::json(json).decode(&pair_model()).expect("a good request").wanted.id, Some(longest));
}

#[test]
fn binary_tensors_stand_behind_the_json_in_its_order() {
    let model = model(&[("a", Dtype::Uint8, &[-1]), ("b", Dtype::Int16, &[2]), ("c", Dtype::Bytes, &[-1])], &[]);
    let json = concat!(
        r#"{"inputs":[{"name":"c","shape":[2],"datatype":"BYTES","parameters":{"binary_data_size":9}},"#,
        r#"{"name":"b","shape":[2],"datatype":"INT16","data":[-1,1]},"#,
        r#"{"name":"a","shape":[3],"datatype":"UINT8","parameters":{"binary_data_size":3}}]}"#,
    );
    let request = Wire::binary(json, b"\x01\0\0\0c\0\0\0\0abc").decode(&model).expect("a good request");
    let named: Vec<(&str, &[u8])> = request.inputs.iter().map(|tensor| (tensor.name.as_str(), &tensor.data[..])).collect();
    assert_eq!(named, [("c", &b"\x01\0\0\0c\0\0\0\0"[..]), ("b", b"\xff\xff\x01\0"), ("a", b"abc")]);
    let empty = r#"{"inputs":[{"name":"x","shape":[0,2],"datatype":"FP32","parameters":{"binary_data_size":0}}]}"#;
    assert!(only_input(&Wire::binary(empty, b""), &pair_model()).data.is_empty());
}

/// A raw body for a model of one input must become a tensor of that shape, and all outputs be wanted as binary data.
fn check_raw(dtype: Dtype, takes: &[i64], body: &[u8], expected: &[i64]) -> Bytes {
    let model = model(&[("x", dtype, takes)], &[("y", Dtype::Fp32, &[1])]);
    let wanted = Wire::raw(body).decode(&model).expect("a good request").wanted;
    assert_eq!(wanted, Wanted { id: None, outputs: vec![WantedOutput { position: 0, binary: true }] });
    let tensor = only_input(&Wire::raw(body), &model);
    assert_eq!(tensor.shape, expected, "{takes:?}");
    tensor.data
}

#[test]
fn a_raw_body_is_the_one_tensor() {
    assert_eq!(check_raw(Dtype::Uint8, &[3], b"abc", &[3]), "abc");
    assert_eq!(check_raw(Dtype::Uint8, &[1, 3], b"abc", &[1, 3]), "abc");
    assert_eq!(check_raw(Dtype::Uint8, &[-1, 3], b"abc", &[1, 3]), "abc");
    assert_eq!(check_raw(Dtype::Uint8, &[-1], b"abc", &[3]), "abc");
    assert_eq!(check_raw(Dtype::Uint8, &[-1], b"", &[0]), "");
    assert_eq!(check_raw(Dtype::Int16, &[-1, -1], b"abcdef", &[1, 3]), "abcdef");
    assert_eq!(check_raw(Dtype::Uint8, &[-1, 2, -1], b"abcdef", &[1, 2, 3]), "abcdef");
    assert_eq!(check_raw(Dtype::Bytes, &[-1, 1], b"abc", &[1, 1]), "\x03\0\0\0abc");
}

struct Spent;

impl Lender for Spent {
    fn lend(&self, _: usize) -> Result<Buffer, Fault> {
        let advice = Advice::RetryAfter(std::time::Duration::from_secs(1));
        Err(Fault::new(Code::Overloaded, "no memory to lend").advising(advice))
    }
}

#[test]
fn a_lenders_refusal_goes_through_as_it_is() {
    let wires = [x(Dtype::Fp32, "[1,2]", "[1,2]"), Wire::raw(&[0; 8])];
    for wire in wires {
        let fault = sandmill_protocol::decode(&wire.headers, &wire.body, &pair_model(), &Spent).expect_err("nothing is lent");
        assert_eq!(fault.code, Code::Overloaded);
        assert!(fault.advice.is_some());
    }
}
