//! Requests that must be refused, as tables: what is sent, and what the client is told.

use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use sandmill_domain::{Code, Dtype};
use sandmill_protocol::HEADER_LENGTH;

use crate::common::{Wire, model, pair_model, refuse, x};

#[test]
fn malformed_json() {
    let deep = format!(r#"{{"a":{}"#, "[".repeat(100_000));
    let deep_data = format!(r#"{{"inputs":[{{"data":{}"#, "[".repeat(100_000));
    let cases = [
        ("", "EOF while parsing a value"),
        ("null", "expected object but found null"),
        ("[]", "expected object but found array"),
        ("{", "EOF while parsing an object"),
        (r#"{"inputs":[]}x"#, "trailing characters"),
        (r#"{"inputs":[]}{}"#, "trailing characters"),
        (r#"{"inputs":[],}"#, "trailing comma"),
        (r#"{"inputs":[{}"#, "input 0 has no `name`"),
        (r#"{"a":1 "inputs":[]}"#, "expected `,` or `}`"),
        (r#"{"inputs":{}}"#, "expected array but found object"),
        (r#"{"inputs":null}"#, "expected array but found null"),
        (r#"{"inputs":[1]}"#, "expected object but found int"),
        (r#"{"id":"\ud800","inputs":[]}"#, "hex escape"),
        ("{\"id\":\"\n\"}", "control character"),
        ("{'id':1}", "key must be a string"),
        ("\u{feff}{}", "expected value"),
        ("{}", "the request has no `inputs`"),
        (&deep, "recursion limit exceeded"),
        (&deep_data, "recursion limit exceeded"),
    ];
    for (json, expected) in cases {
        refuse(&pair_model(), &Wire::json(json), Code::InvalidInput, expected);
    }
    refuse(&pair_model(), &Wire::json(&b"{\"id\":\"\xff\"}"[..]), Code::InvalidInput, "invalid unicode");
}

#[test]
fn members_that_are_wrong_missing_or_doubled() {
    let input = r#"{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}"#;
    let long_id = format!(r#"{{"id":"{}"}}"#, "i".repeat(1025));
    let axes = format!(r#"{{"inputs":[{{"name":"x","shape":[{}1]}}]}}"#, "1,".repeat(64));
    let name = format!(r#"{{"inputs":[{{"name":"{}"}}]}}"#, "n".repeat(100_000));
    let cases = [
        (r#"{"inputs":[]}"#.to_owned(), "tensor `x` is missing"),
        (format!(r#"{{"inputs":[{input},{input}]}}"#), "tensor `x` is given twice"),
        (format!(r#"{{"inputs":[{input}],"inputs":[{input}]}}"#), "member `inputs` is given twice"),
        (format!(r#"{{"id":"a","id":"b","inputs":[{input}]}}"#), "member `id` is given twice"),
        (r#"{"inputs":[{"name":"x","name":"x"}]}"#.into(), "member `name` is given twice"),
        (r#"{"inputs":[{"shape":[1],"shape":[2]}]}"#.into(), "member `shape` is given twice"),
        (r#"{"inputs":[{"datatype":"FP32","datatype":"FP32"}]}"#.into(), "member `datatype` is given twice"),
        (r#"{"inputs":[{"data":[],"data":[]}]}"#.into(), "member `data` is given twice"),
        (r#"{"inputs":[{"parameters":{},"parameters":{}}]}"#.into(), "member `parameters` is given twice"),
        (
            r#"{"parameters":{"binary_data_output":true,"binary_data_output":false}}"#.into(),
            "`binary_data_output` is given twice",
        ),
        (
            r#"{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1},"zz"]}]}"#.into(),
            "tensor `x`: malformed request: ",
        ),
        (r#"{"inputs":[{"datatype":"FP99","name":"x"}]}"#.into(), "tensor `x`: there is no datatype `FP99`"),
        (r#"{"inputs":[{"name":"z"}]}"#.into(), "tensor `z`: the model has no such input; it takes `x`"),
        (name, "the model has no such input"),
        (r#"{"inputs":[{"name":7}]}"#.into(), "expected string but found int"),
        (r#"{"inputs":[{"name":"x","datatype":"fp32"}]}"#.into(), "there is no datatype `fp32`"),
        (r#"{"inputs":[{"name":"x","datatype":"FP32","data":[1,2]}]}"#.into(), "tensor `x` has no `shape`"),
        (r#"{"inputs":[{"name":"x","shape":[1,2],"data":[1,2]}]}"#.into(), "tensor `x` has no `datatype`"),
        (r#"{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32"}]}"#.into(), "tensor `x` has no `data`"),
        (r#"{"inputs":[{"shape":[1,2],"datatype":"FP32","data":[1,2]}]}"#.into(), "input 0 has no `name`"),
        (long_id, "`id` is longer than 1024 bytes"),
        (r#"{"id":7}"#.into(), "expected string but found int"),
        (axes, "a shape has more than 64 axes"),
        (r#"{"outputs":[{"name":"z"}]}"#.into(), "output `z`: the model has no such output; it gives `y`, `s`"),
        (r#"{"outputs":[{}]}"#.into(), "an output has no `name`"),
        (r#"{"outputs":[{"name":"y"},{"name":"y"}]}"#.into(), "output `y` is asked for twice"),
        (r#"{"outputs":[{"name":"y","parameters":{"binary_data":1}}]}"#.into(), "expected bool but found int"),
        (r#"{"parameters":{"binary_data_output":"true"}}"#.into(), "expected bool but found string"),
        (r#"{"parameters":[]}"#.into(), "expected object but found array"),
    ];
    for (json, expected) in cases {
        refuse(&pair_model(), &Wire::json(json), Code::InvalidInput, expected);
    }
}

#[test]
fn shapes_that_do_not_fit() {
    let cases = [
        ("[2]", "shape [2] has 1 axes"),
        ("[1,3]", "axis 1 of shape [1, 3] must be 2"),
        ("[-1,2]", "axis 0 of shape [-1, 2] must be from 0 to 1024"),
        ("[1025,2]", "axis 0 of shape [1025, 2] must be from 0 to 1024"),
        ("[999999999999999999,2]", "must be from 0 to 1024"),
        ("[9223372036854775808,2]", "a shape's axis is too large"),
        ("[1.0,2]", "expected int but found float"),
        ("[\"1\",2]", "expected int but found string"),
        ("[1e0,2]", "expected int but found float"),
        ("[NaN,2]", "expected int but found float"),
        ("[[1],2]", "expected int but found array"),
        ("2", "expected array but found int"),
    ];
    for (shape, expected) in cases {
        refuse(&pair_model(), &x(Dtype::Fp32, shape, "[1,2]"), Code::InvalidInput, expected);
    }
    refuse(&pair_model(), &x(Dtype::Fp64, "[1,2]", "[1,2]"), Code::InvalidInput, "datatype FP64, but the model takes FP32");
}

/// Each also with `data` before the shape.
#[test]
fn data_that_does_not_match_its_shape() {
    let cases = [
        ("[1]", "too few elements for shape [2, 2]"),
        ("[]", "too few elements"),
        ("[1,2,3]", "element 3: too few elements"),
        ("[1,2,3,4,5]", "element 4: too many elements"),
        ("[[1,2]]", "element 2: too few elements"),
        ("[[1,2],[3]]", "element 3: too few elements"),
        ("[[1,2],[3,4,5]]", "element 4: too many elements"),
        ("[[1,2],[3,4],[5,6]]", "element 4: too many elements"),
        ("[[1,2,3,4]]", "element 2: too many elements"),
        ("[[1,2],3,4]", "element 2: not nested deep enough"),
        ("[1,2,[3,4]]", "element 2: array where FP32 is expected"),
        ("[[[1],[2]],[[3],[4]]]", "element 0: array where FP32 is expected"),
        ("{\"a\":[1,2,3,4]}", "`data` is no array"),
        ("\"1234567\"", "`data` is no array"),
        ("1234567", "`data` is no array"),
    ];
    for (data, expected) in cases {
        refuse(&pair_model(), &x(Dtype::Fp32, "[2,2]", data), Code::InvalidInput, expected);
        let first = format!(r#"{{"inputs":[{{"data":{data},"name":"x","shape":[2,2],"datatype":"FP32"}}]}}"#);
        refuse(&pair_model(), &Wire::json(first), Code::InvalidInput, expected);
    }
}

#[test]
fn a_large_shape_with_little_data_borrows_nothing() {
    let wide = model(&[("x", Dtype::Fp64, &[-1, -1, -1])], &[]);
    // The helper checks what was lent against the body's length.
    refuse(&wide, &x(Dtype::Fp64, "[1024,1024,1024]", "[0]"), Code::InvalidInput, "too few elements");
}

#[test]
fn values_that_do_not_fit_their_type() {
    let cases = [
        (Dtype::Bool, "1", "element 2: int where BOOL is expected"),
        (Dtype::Bool, "\"true\"", "string where BOOL is expected"),
        (Dtype::Bool, "tru", "expected ident"),
        (Dtype::Uint8, "256", "element 2: `256` does not fit UINT8"),
        (Dtype::Uint8, "-1", "`-1` does not fit UINT8"),
        (Dtype::Uint8, "1.5", "`1.5` does not fit UINT8"),
        (Dtype::Uint8, "1.0", "`1.0` does not fit UINT8"),
        (Dtype::Uint8, "1e1", "`1e1` does not fit UINT8"),
        (Dtype::Uint8, "NaN", "`NaN` does not fit UINT8"),
        (Dtype::Uint8, "true", "bool where UINT8 is expected"),
        (Dtype::Uint8, "null", "null where UINT8 is expected"),
        (Dtype::Uint16, "65536", "`65536` does not fit UINT16"),
        (Dtype::Uint32, "4294967296", "does not fit UINT32"),
        (Dtype::Uint64, "18446744073709551616", "`18446744073709551616` does not fit UINT64"),
        (Dtype::Int8, "128", "`128` does not fit INT8"),
        (Dtype::Int8, "-129", "`-129` does not fit INT8"),
        (Dtype::Int16, "32768", "does not fit INT16"),
        (Dtype::Int32, "-2147483649", "does not fit INT32"),
        (Dtype::Int64, "9223372036854775808", "does not fit INT64"),
        (Dtype::Int64, "-9223372036854775809", "does not fit INT64"),
        (Dtype::Int64, "\"1\"", "string where INT64 is expected"),
        (Dtype::Fp16, "65520", "`65520` does not fit FP16"),
        (Dtype::Bf16, "3.4e38", "`3.4e38` does not fit BF16"),
        (Dtype::Fp32, "3.5e38", "`3.5e38` does not fit FP32"),
        (Dtype::Fp32, "-1e99999999999999999999999", "does not fit FP32"),
        (Dtype::Fp64, "1e309", "`1e309` does not fit FP64"),
        (Dtype::Fp64, "\"NaN\"", "string where FP64 is expected"),
        (Dtype::Fp64, "01", "invalid number"),
        (Dtype::Fp64, "1.", "invalid number"),
        (Dtype::Fp64, ".5", "expected value"),
        (Dtype::Fp64, "+1", "expected value"),
        (Dtype::Fp64, "0x10", "expected `,` or `]`"),
        (Dtype::Fp64, "1_0", "expected `,` or `]`"),
        (Dtype::Fp64, "nan", "null where FP64 is expected"),
        (Dtype::Fp64, "inf", "expected value"),
        (Dtype::Fp64, "-NaN", "invalid number"),
        (Dtype::Fp64, "Infinit", "expected ident"),
        (Dtype::Fp64, "-", "invalid number"),
        (Dtype::Fp64, "1e", "invalid number"),
        (Dtype::Bytes, "1", "element 2: int where BYTES is expected"),
        (Dtype::Bytes, "null", "null where BYTES is expected"),
        (Dtype::Bytes, "[]", "array where BYTES is expected"),
        (Dtype::Bytes, "\"\\x\"", "invalid escape"),
        (Dtype::Bytes, "\"\\ud800\"", "hex escape"),
    ];
    for (dtype, value, expected) in cases {
        let good = match dtype {
            Dtype::Bool => "true",
            Dtype::Bytes => "\"0\"",
            _ => "0",
        };
        let model = model(&[("x", dtype, &[-1])], &[]);
        refuse(&model, &x(dtype, "[4]", &format!("[{good},{good},{value},{good}]")), Code::InvalidInput, expected);
    }
    let digits = format!("[{}]", "9".repeat(100_000));
    for dtype in [Dtype::Fp64, Dtype::Uint64] {
        refuse(&model(&[("x", dtype, &[1])], &[]), &x(dtype, "[1]", &digits), Code::InvalidInput, "number out of range");
    }
    let digits = format!("[{}]", "9".repeat(4000));
    refuse(&model(&[("x", Dtype::Fp64, &[1])], &[]), &x(Dtype::Fp64, "[1]", &digits), Code::InvalidInput, "does not fit FP64");
}

#[test]
fn headers_that_do_not_frame_the_body() {
    let json = r#"{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]}"#;
    for value in ["", "-1", "+5", "1.0", "0x10", "five", "5 5", "5,5", "18446744073709551616", "99999999999999999999999999"] {
        let expected = "inference-header-content-length must be given once, as a whole number";
        refuse(&pair_model(), &Wire::json(json).with(HEADER_LENGTH, value), Code::InvalidInput, expected);
    }
    let twice = Wire::json(json).with(HEADER_LENGTH, "5").with(HEADER_LENGTH, "5");
    refuse(&pair_model(), &twice, Code::InvalidInput, "must be given once");
    for value in [json.len() as u64 + 1, u64::MAX] {
        let wire = Wire::json(json).with(HEADER_LENGTH, &value.to_string());
        refuse(&pair_model(), &wire, Code::InvalidInput, "but the body has only 70");
    }
    let short = Wire::json(json).with(HEADER_LENGTH, "69");
    refuse(&pair_model(), &short, Code::InvalidInput, "EOF while parsing an object");
}

#[test]
fn only_the_identity_encoding_is_spoken() {
    let json = r#"{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]}"#;
    for value in ["gzip", "deflate", "br", "identity, gzip", ""] {
        refuse(&pair_model(), &Wire::json(json).with(CONTENT_ENCODING, value), Code::Unsupported, "identity");
    }
    assert!(Wire::json(json).with(CONTENT_ENCODING, "Identity").decode(&pair_model()).is_ok());
    assert!(Wire { headers: HeaderMap::new(), body: json.into() }.decode(&pair_model()).is_ok());
}

#[test]
fn parameters_that_would_change_the_meaning() {
    let of_input = |parameters: &str| {
        format!(r#"{{"inputs":[{{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2],"parameters":{parameters}}}]}}"#)
    };
    let input = r#""inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]"#;
    let cases = [
        (of_input(r#"{"shared_memory_region":"r","shared_memory_byte_size":8}"#), "`shared_memory_region`"),
        (format!(r#"{{{input},"outputs":[{{"name":"y","parameters":{{"classification":3}}}}]}}"#), "`classification`"),
        (
            format!(r#"{{{input},"outputs":[{{"name":"y","parameters":{{"shared_memory_region":"r"}}}}]}}"#),
            "`shared_memory_region`",
        ),
        (format!(r#"{{{input},"parameters":{{"sequence_id":7}}}}"#), "`sequence_id`"),
        (format!(r#"{{{input},"parameters":{{"sequence_id":"a"}}}}"#), "`sequence_id`"),
    ];
    for (json, expected) in cases {
        refuse(&pair_model(), &Wire::json(json), Code::Unsupported, expected);
    }
    let harmless = r#"{"sequence_id":0,"sequence_start":false,"priority":1,"timeout":5,"content_type":"np","x":{"y":[null]}}"#;
    assert!(Wire::json(of_input(harmless)).decode(&pair_model()).is_ok());
    assert!(Wire::json(format!(r#"{{{input},"parameters":{harmless},"extra":[[]]}}"#)).decode(&pair_model()).is_ok());
}

#[test]
fn binary_tensors_that_are_not_what_they_say() {
    let of = |size: &str| {
        format!(r#"{{"inputs":[{{"name":"x","shape":[1,2],"datatype":"FP32","parameters":{{"binary_data_size":{size}}}}}]}}"#)
    };
    let cases = [
        ("8", 7, "tensor `x` is truncated: `binary_data_size` is 8, but the body has 7 left"),
        ("8", 9, "unexpected additional input data: 1 bytes behind the last tensor"),
        ("4", 8, "tensor `x`: 4 bytes of data, but its shape and datatype make 8"),
        ("16", 16, "tensor `x`: 16 bytes of data, but its shape and datatype make 8"),
        ("0", 0, "tensor `x`: 0 bytes of data, but its shape and datatype make 8"),
        ("-8", 8, "`binary_data_size` must be a number of bytes"),
        ("18446744073709551616", 8, "`binary_data_size` must be a number of bytes"),
        ("999999999999999999", 8, "tensor `x` is truncated"),
        ("8.0", 8, "expected int but found float"),
        ("\"8\"", 8, "expected int but found string"),
        ("true", 8, "expected int but found bool"),
    ];
    for (size, bytes, expected) in cases {
        refuse(&pair_model(), &Wire::binary(&of(size), &vec![0; bytes]), Code::InvalidInput, expected);
    }
    refuse(&pair_model(), &Wire::json(of("8")), Code::InvalidInput, "needs header inference-header-content-length");
    let both = r#"{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2],"parameters":{"binary_data_size":8}}]}"#;
    refuse(&pair_model(), &Wire::binary(both, &[0; 8]), Code::InvalidInput, "has both `data` and `binary_data_size`");
    let json = r#"{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]}"#;
    refuse(&pair_model(), &Wire::binary(json, b"x"), Code::InvalidInput, "unexpected additional input data: 1 bytes");
}

#[test]
fn binary_elements_that_make_no_sense() {
    let of = |dtype: Dtype, shape: &str, data: &[u8]| {
        let size = data.len();
        let head = format!(r#"{{"name":"x","shape":{shape},"datatype":"{dtype}","parameters":{{"binary_data_size":{size}}}}}"#);
        Wire::binary(&format!(r#"{{"inputs":[{head}]}}"#), data)
    };
    let bools = model(&[("x", Dtype::Bool, &[-1])], &[]);
    refuse(
        &bools,
        &of(Dtype::Bool, "[3]", &[1, 0, 2]),
        Code::InvalidInput,
        "tensor `x`: element 2: byte 2 where BOOL has 0 or 1",
    );
    let strings = model(&[("x", Dtype::Bytes, &[-1])], &[]);
    for (shape, data) in [
        ("[1]", &b"\x02\0\0\0a"[..]),
        ("[1]", b"\x01\0\0"),
        ("[1]", b"\xff\xff\xff\xffa"),
        ("[1]", b""),
        ("[2]", b"\x01\0\0\0a"),
        ("[1]", b"\x01\0\0\0a\0\0\0\0"),
        ("[0]", b"\0\0\0\0"),
    ] {
        refuse(&strings, &of(Dtype::Bytes, shape, data), Code::InvalidInput, "its data does not hold exactly");
    }
}

#[test]
fn raw_requests_that_cannot_be_told() {
    let two = model(&[("a", Dtype::Fp32, &[2]), ("b", Dtype::Fp32, &[2])], &[]);
    refuse(&two, &Wire::raw(&[0; 8]), Code::InvalidInput, "a raw request needs a model of one input, this one has 2");
    let cases: [(&[i64], Dtype, usize, &str); 9] = [
        (&[-1, -1, -1], Dtype::Fp32, 8, "its shape cannot be told"),
        (&[2, -1, -1], Dtype::Fp32, 8, "its shape cannot be told"),
        (&[0, -1], Dtype::Fp32, 8, "its shape cannot be told"),
        (&[2], Dtype::Fp32, 7, "7 bytes of data, but its shape and datatype make 8"),
        (&[-1, 2], Dtype::Fp32, 12, "12 bytes of data, but its shape and datatype make 8"),
        (&[-1], Dtype::Uint8, 1025, "axis 0 of shape [1025] must be from 0 to 1024"),
        (&[2], Dtype::Bytes, 8, "its shape cannot be told"),
        (&[-1, 3], Dtype::Bytes, 8, "its shape cannot be told"),
        (&[-1], Dtype::Bool, 3, "element 0: byte 7 where BOOL"),
    ];
    for (shape, dtype, bytes, expected) in cases {
        refuse(&model(&[("x", dtype, shape)], &[]), &Wire::raw(&vec![7; bytes]), Code::InvalidInput, expected);
    }
}
