//! Inference replies, byte for byte.

use std::num::NonZeroU64;

use bytes::Bytes;
use half::{bf16, f16};
use http::header::CONTENT_TYPE;
use sandmill_domain::{Blame, Code, Dtype, Fault, ReleaseNumber, Reply, Tensor};
use sandmill_protocol::{HEADER_LENGTH, Wanted, WantedOutput, encode};

fn tensor(name: &str, dtype: Dtype, shape: &[i64], data: &[u8]) -> Tensor {
    Tensor { name: name.into(), dtype, shape: shape.to_vec(), data: Bytes::copy_from_slice(data) }
}

fn reply(id: Option<&str>, wanted: &[(usize, bool)], outputs: &[Tensor]) -> Result<Reply, Fault> {
    let outputs_wanted = wanted.iter().map(|(position, binary)| WantedOutput { position: *position, binary: *binary }).collect();
    let wanted = Wanted { id: id.map(str::to_owned), outputs: outputs_wanted };
    encode(&wanted, "digits", ReleaseNumber(NonZeroU64::new(12).expect("not zero")), outputs)
}

fn header(reply: &Reply, name: &http::HeaderName) -> Option<String> {
    let mut values = reply.headers.iter().filter(|(key, _)| key == name);
    let value = values.next().map(|(_, value)| value.to_str().expect("a header in ASCII").to_owned());
    assert!(values.next().is_none(), "{name} is set twice");
    value
}

/// One output as JSON data.
fn check(dtype: Dtype, data: &[u8], expected: &str) {
    let reply = reply(None, &[(0, false)], &[tensor("y", dtype, &[1, 2], data)]).expect("a reply");
    let head = r#"{"model_name":"digits","model_version":"12","outputs":[{"name":"y","datatype":""#;
    let whole = format!(r#"{head}{dtype}","shape":[1,2],"data":{expected}}}]}}"#);
    assert_eq!(str::from_utf8(&reply.body), Ok(whole.as_str()));
    assert_eq!(header(&reply, &CONTENT_TYPE).as_deref(), Some("application/json"));
    assert_eq!(header(&reply, &HEADER_LENGTH), None);
}

#[test]
fn numbers_are_written_shortest() {
    check(Dtype::Bool, &[1, 0], "[true,false]");
    check(Dtype::Uint8, &[0, 255], "[0,255]");
    check(Dtype::Int8, &[128, 1], "[-128,1]");
    check(Dtype::Uint64, &[[255; 8], [0; 8]].concat(), "[18446744073709551615,0]");
    check(Dtype::Int64, &[i64::MIN, 7].map(i64::to_le_bytes).concat(), "[-9223372036854775808,7]");
    check(Dtype::Fp32, &[0.1_f32, 1e20].map(f32::to_le_bytes).concat(), "[0.1,1e20]");
    check(Dtype::Fp64, &[0.1_f64, -0.0].map(f64::to_le_bytes).concat(), "[0.1,-0.0]");
    check(Dtype::Fp16, &[0.5, 2.0].map(f16::from_f32).map(f16::to_le_bytes).concat(), "[0.5,2.0]");
    check(Dtype::Fp32, &[f32::NAN, f32::INFINITY].map(f32::to_le_bytes).concat(), "[NaN,Infinity]");
    check(Dtype::Fp64, &[f64::NEG_INFINITY, -f64::NAN].map(f64::to_le_bytes).concat(), "[-Infinity,NaN]");
    check(Dtype::Bf16, &[bf16::NEG_INFINITY, bf16::ONE].map(bf16::to_le_bytes).concat(), "[-Infinity,1.0]");
    check(Dtype::Bytes, b"\x02\0\0\0\"\n\0\0\0\0", r#"["\"\n",""]"#);
}

#[test]
fn outputs_come_as_wanted() {
    let outputs = [
        tensor("a", Dtype::Uint8, &[2], b"\x01\x02"),
        tensor("b", Dtype::Bytes, &[1], b"\x01\0\0\0\xff"),
        tensor("c", Dtype::Uint8, &[], b"\x03"),
    ];
    let reply = reply(Some("4\"2"), &[(2, true), (0, false), (1, true)], &outputs).expect("a reply");
    let json = concat!(
        r#"{"id":"4\"2","model_name":"digits","model_version":"12","outputs":["#,
        r#"{"name":"c","datatype":"UINT8","shape":[],"parameters":{"binary_data_size":1}},"#,
        r#"{"name":"a","datatype":"UINT8","shape":[2],"data":[1,2]},"#,
        r#"{"name":"b","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":5}}]}"#,
    );
    assert_eq!(&reply.body[..], [json.as_bytes(), b"\x03\x01\0\0\0\xff"].concat());
    assert_eq!(header(&reply, &HEADER_LENGTH), Some(json.len().to_string()));
    assert_eq!(header(&reply, &CONTENT_TYPE).as_deref(), Some("application/octet-stream"));
}

#[test]
fn an_empty_id_is_left_out() {
    let reply = reply(Some(""), &[], &[]).expect("a reply");
    assert_eq!(&reply.body[..], br#"{"model_name":"digits","model_version":"12","outputs":[]}"#);
}

#[test]
fn bytes_that_are_no_text_are_the_callers_to_ask_for_otherwise() {
    let outputs = [tensor("y", Dtype::Bytes, &[2], b"\x01\0\0\0a\x01\0\0\0\xff")];
    let fault = reply(None, &[(0, false)], &outputs).expect_err("no UTF-8");
    assert_eq!((fault.code, fault.blame), (Code::Unprocessable, Blame::Caller));
    assert_eq!(fault.message, "output `y`: element 1 is no UTF-8, which JSON cannot hold: ask for `binary_data`");
    assert!(reply(None, &[(0, true)], &outputs).is_ok());
}

#[test]
fn outputs_that_break_their_promise_are_the_hosts_fault() {
    let cut = [tensor("y", Dtype::Bytes, &[1], b"\x09\0\0\0a")];
    for (wanted, outputs) in [((0, false), &cut[..]), ((1, true), &cut[..])] {
        assert_eq!(reply(None, &[wanted], outputs).expect_err("a broken promise").code, Code::Internal);
    }
}
