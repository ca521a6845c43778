//! The small fixed bodies: health, what server and models are, and every error. Knows no routes and no codes for faults.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use sandmill_domain::ports::Description;
use sandmill_domain::{Axis, Fault, Reply, TensorSpec};
use serde::Serialize;

/// Extensions of the protocol, in its spelling: only what third-party clients were tested with.
const EXTENSIONS: [&str; 2] = ["binary_tensor_data", "model_repository"];

/// What the models are made of and run by, as `<project>_<format>`; clients only show it.
const PLATFORM: &str = "onnx_onnxv1";

#[derive(Serialize)]
struct Server<'a> {
    name: &'static str,
    version: &'a str,
    extensions: [&'static str; 2],
}

#[derive(Serialize)]
struct Model<'a> {
    name: &'a str,
    versions: Vec<String>,
    platform: &'static str,
    inputs: Vec<TensorMetadata<'a>>,
    outputs: Vec<TensorMetadata<'a>>,
}

#[derive(Serialize)]
struct TensorMetadata<'a> {
    name: &'a str,
    datatype: &'static str,
    /// -1 for an axis of variable size.
    shape: Vec<i64>,
}

#[derive(Serialize)]
struct Live {
    live: bool,
}

#[derive(Serialize)]
struct Ready<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    remarks: &'a [String],
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
    code: &'static str,
}

/// `GET /v2`.
pub fn server_metadata(version: &str) -> Reply {
    json(StatusCode::OK, &Server { name: "sandmill", version, extensions: EXTENSIONS })
}

/// `GET /v2/models/{name}`: its releases as versions, its inputs and outputs.
pub fn model_metadata(name: &str, description: &Description) -> Reply {
    let signature = &description.model.signature;
    let model = Model {
        name,
        versions: description.releases.iter().map(ToString::to_string).collect(),
        platform: PLATFORM,
        inputs: signature.inputs.iter().map(tensor_metadata).collect(),
        outputs: signature.outputs.iter().map(tensor_metadata).collect(),
    };
    json(StatusCode::OK, &model)
}

fn tensor_metadata(spec: &TensorSpec) -> TensorMetadata<'_> {
    let size = |axis: &Axis| match axis {
        Axis::Fixed(size) => *size,
        Axis::Dynamic { .. } | Axis::Sizes { .. } => -1,
    };
    TensorMetadata { name: &spec.name, datatype: spec.dtype.name(), shape: spec.shape.iter().map(size).collect() }
}

/// `GET /v2/health/live`: 200, or 503 with the same body.
pub fn live(live: bool) -> Reply {
    json(status(live), &Live { live })
}

/// `GET /v2/health/ready`: 200, or 503 with the same body.
pub fn ready(ready: bool) -> Reply {
    json(status(ready), &Ready { name: None, ready, reason: None, remarks: &[] })
}

/// `GET /ready` of the control listener, when it is: with what its operator should know.
pub fn ready_with(remarks: &[String]) -> Reply {
    json(StatusCode::OK, &Ready { name: None, ready: true, reason: None, remarks })
}

/// `GET /ready` of the control listener, when it is not: why, which is the operator's to know.
pub fn unready(reason: &str) -> Reply {
    json(status(false), &Ready { name: None, ready: false, reason: Some(reason), remarks: &[] })
}

/// `GET /v2/models/{name}/ready`: 200, or 503 with the same body.
pub fn model_ready(name: &str, ready: bool) -> Reply {
    json(status(ready), &Ready { name: Some(name), ready, reason: None, remarks: &[] })
}

fn status(yes: bool) -> StatusCode {
    if yes { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

/// The body of every error, `application/json`: the message for the client and the code's name.
pub fn fault_body(fault: &Fault) -> Bytes {
    text(&ErrorBody { error: &fault.message, code: fault.code.name() })
}

pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Reply {
    Reply { status, headers: vec![(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body: text(value) }
}

pub(crate) fn text(value: &impl Serialize) -> Bytes {
    Bytes::from(serde_json::to_vec(value).expect("invariant: strings, numbers and lists always serialise"))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;
    use std::sync::Arc;

    use sandmill_domain::{Code, Dtype, ModelInfo, ReleaseNumber, Signature};

    use super::*;

    fn check(reply: &Reply, status: u16, body: &str) {
        assert_eq!((reply.status.as_u16(), str::from_utf8(&reply.body).unwrap()), (status, body));
        assert_eq!(reply.headers, [(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    }

    #[test]
    fn fixed_bodies_are_the_protocols() {
        check(&live(true), 200, r#"{"live":true}"#);
        check(&live(false), 503, r#"{"live":false}"#);
        check(&ready(true), 200, r#"{"ready":true}"#);
        check(&ready(false), 503, r#"{"ready":false}"#);
        check(&unready("it drains"), 503, r#"{"ready":false,"reason":"it drains"}"#);
        check(&model_ready("digits", true), 200, r#"{"name":"digits","ready":true}"#);
        check(&model_ready("digits", false), 503, r#"{"name":"digits","ready":false}"#);
        check(
            &server_metadata("1.2.3"),
            200,
            r#"{"name":"sandmill","version":"1.2.3","extensions":["binary_tensor_data","model_repository"]}"#,
        );
    }

    #[test]
    fn a_model_shows_its_releases_and_tensors() {
        let batch = Axis::Dynamic { symbol: Some("n".into()), max: 32 };
        let signature = Signature {
            inputs: vec![TensorSpec { name: "x".into(), dtype: Dtype::Fp32, shape: vec![batch, Axis::Fixed(64)] }],
            outputs: vec![TensorSpec { name: "y".into(), dtype: Dtype::Bytes, shape: vec![] }],
        };
        let second = ReleaseNumber(NonZeroU64::new(2).unwrap());
        let description = Description {
            release: second,
            releases: vec![ReleaseNumber::FIRST, second],
            model: Arc::new(ModelInfo { name: "m".into(), signature, metadata: vec![] }),
            ready: true,
        };
        let expected = concat!(
            r#"{"name":"digits","versions":["1","2"],"platform":"onnx_onnxv1","#,
            r#""inputs":[{"name":"x","datatype":"FP32","shape":[-1,64]}],"#,
            r#""outputs":[{"name":"y","datatype":"BYTES","shape":[]}]}"#,
        );
        check(&model_metadata("digits", &description), 200, expected);
    }

    #[test]
    fn a_fault_tells_the_client_its_message_and_code_alone() {
        let fault = Fault::new(Code::Overloaded, "say \"later\"").because("a secret");
        assert_eq!(&fault_body(&fault)[..], br#"{"error":"say \"later\"","code":"overloaded"}"#);
    }
}
