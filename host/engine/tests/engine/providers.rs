//! Who runs a model, and how much is done to its graph: what a machine without any device can show of it. The rest is in `tests/gpu`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use prost::Message;
use sandmill_domain::ports::Model;
use sandmill_domain::{Dtype, Optimization, Provider, Tensor};
use sandmill_engine::{
    Engine, EngineError, EngineOptions, LoadError, ModelOptions, ModelSource, OnnxModel, ProviderError, ProviderLibrary,
    ProviderOptions,
};

use crate::harness::{DIGIT, ENGINE, as_floats, digits_bytes, floats, integers, library, options, outputs, try_load};

/// What a build of the runtime without devices says of each.
const MISSING: [&str; 2] = ["cuda", "tensorrt"];

fn asking(names: &[&str], fallback: bool) -> ModelOptions {
    ModelOptions { providers: names.iter().map(|name| Provider::named(name)).collect(), fallback, ..options() }
}

fn refusal(options: &ModelOptions) -> LoadError {
    try_load("scalar", options).err().expect("the model was loaded")
}

/// Whether this machine has what these tests show the lack of.
fn has_device() -> bool {
    try_load("scalar", &asking(&["cuda"], false)).is_ok()
}

#[test]
fn a_model_runs_on_the_cpu_by_default() {
    let model = try_load("scalar", &options()).unwrap();
    assert_eq!((model.provider(), model.fell_back()), ("cpu", None));
    assert_eq!(model.placement().shares, BTreeMap::new(), "nobody asked");
}

#[test]
fn a_provider_that_is_missing_is_an_error() {
    if has_device() {
        return;
    }
    for name in MISSING {
        let error = refusal(&asking(&[name, "cpu"], false));
        assert!(
            matches!(&error, LoadError::Provider(ProviderError::Missing { name: missing, .. }) if missing == name),
            "{error}"
        );
        let text = error.to_string();
        assert!(text.starts_with(&format!("provider `{name}` cannot be used: ")), "{text}");
        assert!(text.contains("is not enabled in this build") && text.ends_with("or declare `fallback = true`"), "{text}");
    }
}

#[tokio::test]
async fn a_declared_fallback_is_told_of() {
    if has_device() {
        return;
    }
    let model = try_load("digits", &asking(&["tensorrt", "cuda", "cpu"], true)).unwrap();
    let told = model.fell_back().expect("it has fallen back");
    assert!(told.starts_with("`tensorrt`: ") && told.contains("; `cuda`: "), "{told}");
    assert_eq!(model.provider(), "cpu");
    let plain = try_load("digits", &options()).unwrap();
    assert_eq!(digit(&model).await, digit(&plain).await);
}

async fn digit(model: &OnnxModel) -> Vec<Tensor> {
    outputs(model, vec![floats("X", &[1, 64], &DIGIT)]).await
}

/// A fault of the model's own stays its own, whoever was asked to run it.
#[test]
fn a_fallback_does_not_hide_a_broken_model() {
    let node = Node { op_type: Some("NoSuchOperator".to_owned()), ..Node::default() };
    let opset_import = vec![Opset { version: Some(21) }];
    let file = File { ir_version: Some(10), graph: Some(Graph { node: vec![node] }), opset_import };
    let source = ModelSource::of("broken", file.encode_to_vec());
    let error = ENGINE.load(source, &asking(&["cuda"], true)).err().expect("it is broken");
    assert!(matches!(error, LoadError::Model(_)), "{error}");
}

/// A function may be anybody's: what it says is checked whether it is used or not.
#[test]
fn options_of_a_stranger_are_refused_before_anything_is_tried() {
    let with = |name: &str, key: &str, value: &str| {
        let options = [(key.to_owned(), value.to_owned())].into();
        Provider { options, ..Provider::named(name) }
    };
    let cases = [
        with("cuda", "user_compute_stream", "140737488355328"),
        with("cuda", "gpu_external_alloc", "4198400"),
        with("cuda", "enable_cuda_graph", "1"),
        with("tensorrt", "trt_engine_cache_path", "/etc"),
        with("tensorrt", "trt_extra_plugin_lib_paths", "/tmp/evil.so"),
        with("tensorrt", "trt_engine_decryption_lib_path", "/tmp/evil.so"),
        with("tensorrt", "trt_ep_context_file_path", "../../x"),
        with("cpu", "use_arena", "0"),
    ];
    for provider in cases {
        let (name, key) = (provider.name.clone(), provider.options.keys().next().cloned().unwrap());
        for optimization in [Optimization::All, Optimization::Debug] {
            let text = refusal(&ModelOptions { providers: vec![provider.clone()], fallback: true, optimization, ..options() });
            assert!(text.to_string().starts_with(&format!("provider `{name}` takes no option `{key}` of a function")), "{text}");
        }
    }
    let greedy = Provider { memory_bytes_max: Some(1 << 40), ..Provider::named("cuda") };
    let text = refusal(&ModelOptions { providers: vec![greedy], fallback: true, ..options() }).to_string();
    assert!(text.contains("but the host gives 4294967296 at most"), "{text}");
}

fn start(libraries: &[(&str, PathBuf)], engine_cache: Option<PathBuf>) -> Result<Engine, EngineError> {
    let declared =
        |(name, path): &(&str, PathBuf)| ((*name).to_owned(), ProviderLibrary { path: path.clone(), options: Vec::new() });
    let libraries = libraries.iter().map(declared).collect();
    let providers = ProviderOptions { libraries, engine_cache, ..ProviderOptions::default() };
    Engine::start(&library(), &EngineOptions { providers, ..EngineOptions::default() })
}

#[test]
fn what_the_operator_has_declared_must_be_there() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.so");
    fs::write(&text, "no library").unwrap();
    let runtime = library().canonicalize().unwrap();
    let cases = [
        ("npu", folder.path().join("missing.so"), "No such file"),
        ("npu", PathBuf::from("relative.so"), "its path is not absolute"),
        ("npu", text, "the provider's library `npu` ("),
        // A library, but none of providers.
        ("npu", runtime.clone(), "the provider's library `npu` ("),
        ("cuda", runtime.clone(), "cannot be called `cuda`"),
        ("../npu", runtime, "cannot be called `../npu`"),
    ];
    for (name, path, expected) in cases {
        let error = start(&[(name, path.clone())], None).err().unwrap_or_else(|| panic!("{} was taken", path.display()));
        assert!(matches!(error, EngineError::Provider(_)) && error.to_string().contains(expected), "{error}");
    }
    assert!(start(&[], Some(folder.path().join("engines"))).is_ok());
    let error = start(&[], Some(Path::new("engines").to_owned())).err().expect("it is relative");
    assert!(error.to_string().contains("is not an absolute path"), "{error}");
}

/// The names in an ONNX file, for prost, and what else it takes to make one.
#[derive(Clone, PartialEq, Message)]
struct File {
    #[prost(int64, optional, tag = "1")]
    ir_version: Option<i64>,
    #[prost(message, optional, tag = "7")]
    graph: Option<Graph>,
    #[prost(message, repeated, tag = "8")]
    opset_import: Vec<Opset>,
}

#[derive(Clone, PartialEq, Message)]
struct Opset {
    #[prost(int64, optional, tag = "2")]
    version: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Graph {
    #[prost(message, repeated, tag = "1")]
    node: Vec<Node>,
}

#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(string, optional, tag = "3")]
    name: Option<String>,
    #[prost(string, optional, tag = "4")]
    op_type: Option<String>,
}

fn debugged(name: &str) -> OnnxModel {
    try_load(name, &ModelOptions { optimization: Optimization::Debug, ..options() }).unwrap()
}

#[test]
fn a_debugged_model_has_all_its_names() {
    let (model, optimised) = (debugged("digits"), try_load("digits", &options()).unwrap());
    let nodes = &model.placement().nodes;
    let graph = File::decode(digits_bytes().as_slice()).unwrap().graph.unwrap();
    assert!(graph.node.len() > 5, "{graph:?}");
    for name in graph.node.iter().filter_map(|node| node.name.as_ref()) {
        assert!(nodes.contains(name), "{name} is not in {nodes:?}");
    }
    assert_eq!(nodes.len(), graph.node.len(), "{nodes:?}");
    assert_eq!(model.info(), optimised.info());
    assert_eq!(optimised.placement().nodes, Vec::<String>::new());
}

#[tokio::test]
async fn a_model_answers_alike_however_it_is_optimised() {
    let pairs = |one: &[Tensor], other: &[Tensor]| {
        assert_eq!(one.len(), other.len());
        for (one, other) in one.iter().zip(other) {
            assert_eq!((&one.name, one.dtype, &one.shape), (&other.name, other.dtype, &other.shape));
            if one.dtype != Dtype::Fp32 {
                assert_eq!(one, other);
                continue;
            }
            for (one, other) in as_floats(one).iter().zip(as_floats(other)) {
                assert!((one - other).abs() <= 1e-5 * one.abs().max(1.0), "{one} is not {other}");
            }
        }
    };
    let scalar = || vec![integers("x", &[], &[21])];
    let plain = digit(&try_load("digits", &options()).unwrap()).await;
    let doubled = outputs(&try_load("scalar", &options()).unwrap(), scalar()).await;
    for optimization in [Optimization::Extended, Optimization::Basic, Optimization::Debug] {
        let options = ModelOptions { optimization, ..options() };
        pairs(&plain, &digit(&try_load("digits", &options).unwrap()).await);
        pairs(&doubled, &outputs(&try_load("scalar", &options).unwrap(), scalar()).await);
    }
}

/// It is the first thing to try when TensorRT gives other answers: it must not need TensorRT.
#[test]
fn debugging_does_without_what_compiles() {
    let options = ModelOptions { optimization: Optimization::Debug, ..asking(&["tensorrt", "cpu"], false) };
    let model = try_load("digits", &options).unwrap();
    assert_eq!((model.provider(), model.fell_back()), ("cpu", None));
    assert_eq!(model.placement().shares.keys().collect::<Vec<_>>(), ["cpu"]);
}
