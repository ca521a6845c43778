//! Hostile models, each with the words it is refused with. They are written by prost, from the fields of `onnx.proto` that matter
//! here, and never get to the runtime.
#![allow(clippy::unwrap_used, reason = "a failed expectation is how a test speaks")]

use std::env;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use prost::Message;
use sandmill_engine::{Engine, EngineOptions, LoadError, ModelOptions, ModelSource, OnnxModel, Refusal};

#[derive(Clone, PartialEq, Message)]
struct Model {
    #[prost(int64, optional, tag = "1")]
    ir_version: Option<i64>,
    #[prost(message, optional, tag = "7")]
    graph: Option<Graph>,
    #[prost(message, repeated, tag = "8")]
    opset_import: Vec<Opset>,
    #[prost(message, repeated, tag = "20")]
    training_info: Vec<Opset>,
    #[prost(message, repeated, tag = "25")]
    functions: Vec<Function>,
    #[prost(message, repeated, tag = "26")]
    configuration: Vec<Opset>,
}

#[derive(Clone, PartialEq, Message)]
struct Opset {
    #[prost(string, optional, tag = "1")]
    domain: Option<String>,
    #[prost(int64, optional, tag = "2")]
    version: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Function {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "7")]
    node: Vec<Node>,
    #[prost(message, repeated, tag = "9")]
    opset_import: Vec<Opset>,
    #[prost(string, tag = "10")]
    domain: String,
    #[prost(message, repeated, tag = "11")]
    attribute_proto: Vec<Attribute>,
}

#[derive(Clone, PartialEq, Message)]
struct Graph {
    #[prost(message, repeated, tag = "1")]
    node: Vec<Node>,
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    input: Vec<ValueInfo>,
    #[prost(message, repeated, tag = "15")]
    sparse_initializer: Vec<Sparse>,
}

#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(bytes = "vec", tag = "3")]
    name: Vec<u8>,
    #[prost(string, tag = "4")]
    op_type: String,
    #[prost(message, repeated, tag = "5")]
    attribute: Vec<Attribute>,
    #[prost(string, tag = "7")]
    domain: String,
    #[prost(message, repeated, tag = "10")]
    device_configurations: Vec<Opset>,
}

#[derive(Clone, PartialEq, Message)]
struct Attribute {
    #[prost(message, optional, tag = "5")]
    t: Option<Tensor>,
    #[prost(message, optional, tag = "6")]
    g: Option<Graph>,
    #[prost(message, repeated, tag = "10")]
    tensors: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    graphs: Vec<Graph>,
    #[prost(message, optional, tag = "14")]
    tp: Option<Type>,
    #[prost(message, optional, tag = "22")]
    sparse_tensor: Option<Sparse>,
    #[prost(message, repeated, tag = "23")]
    sparse_tensors: Vec<Sparse>,
}

#[derive(Clone, PartialEq, Message)]
struct Tensor {
    #[prost(int64, repeated, packed = "false", tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(int64, repeated, tag = "7")]
    int64_data: Vec<i64>,
    #[prost(string, tag = "8")]
    name: String,
    #[prost(bytes = "vec", optional, tag = "9")]
    raw_data: Option<Vec<u8>>,
    #[prost(message, repeated, tag = "13")]
    external_data: Vec<Entry>,
    #[prost(int32, repeated, packed = "false", tag = "14")]
    data_location: Vec<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct Sparse {
    #[prost(message, optional, tag = "1")]
    values: Option<Tensor>,
    #[prost(message, optional, tag = "2")]
    indices: Option<Tensor>,
    #[prost(int64, repeated, tag = "3")]
    dims: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct ValueInfo {
    #[prost(message, optional, tag = "2")]
    kind: Option<Type>,
}

/// A type is a sequence of a type, or nothing.
#[derive(Clone, PartialEq, Message)]
struct Type {
    #[prost(message, optional, boxed, tag = "4")]
    sequence: Option<Box<Sequence>>,
}

#[derive(Clone, PartialEq, Message)]
struct Sequence {
    #[prost(message, optional, boxed, tag = "1")]
    element: Option<Box<Type>>,
}

const FLOAT: i32 = 1;
const INT64: i32 = 7;

fn good() -> Model {
    of_graph(Graph { node: vec![node("Neg", vec![])], ..Graph::default() })
}

fn of_graph(graph: Graph) -> Model {
    Model { ir_version: Some(10), opset_import: vec![opset(None, 21)], graph: Some(graph), ..Model::default() }
}

fn of_nodes(node: Vec<Node>) -> Model {
    of_graph(Graph { node, ..Graph::default() })
}

fn of_weights(initializer: Vec<Tensor>) -> Model {
    of_graph(Graph { initializer, ..Graph::default() })
}

fn of_sparse(sparse_initializer: Vec<Sparse>) -> Model {
    of_graph(Graph { sparse_initializer, ..Graph::default() })
}

fn opset(domain: Option<&str>, version: i64) -> Opset {
    Opset { domain: domain.map(str::to_owned), version: Some(version) }
}

fn of_opsets(opset_import: Vec<Opset>) -> Model {
    Model { opset_import, ..good() }
}

fn node(op_type: &str, attribute: Vec<Attribute>) -> Node {
    Node { name: b"n".to_vec(), op_type: op_type.into(), attribute, ..Node::default() }
}

fn call(domain: &str, op_type: &str) -> Node {
    Node { domain: domain.into(), ..node(op_type, vec![]) }
}

/// A node with one attribute.
fn with(change: impl Fn(&mut Attribute)) -> Model {
    let mut attribute = Attribute::default();
    change(&mut attribute);
    of_nodes(vec![node("Constant", vec![attribute])])
}

fn function(name: &str, node: Vec<Node>) -> Function {
    Function { name: name.into(), domain: "own".into(), node, ..Function::default() }
}

/// `f0` of two nodes, and then each function calls the one before.
fn chain(functions: usize, calls: usize) -> Model {
    let first = function("f0", vec![node("Neg", vec![]); 2]);
    let later = (1..functions).map(|i| function(&format!("f{i}"), vec![call("own", &format!("f{}", i - 1)); calls]));
    let node = vec![call("own", &format!("f{}", functions - 1))];
    Model { functions: [first].into_iter().chain(later).collect(), ..of_nodes(node) }
}

fn weight(data_type: i32, dims: &[i64]) -> Tensor {
    Tensor { name: "w".into(), data_type, dims: dims.to_vec(), ..Tensor::default() }
}

fn raw(data_type: i32, dims: &[i64], bytes: usize) -> Tensor {
    Tensor { raw_data: Some(vec![0; bytes]), ..weight(data_type, dims) }
}

/// A tensor without a name, as attributes have them.
fn nameless(tensor: Tensor) -> Tensor {
    Tensor { name: String::new(), ..tensor }
}

fn external(location: &str) -> Tensor {
    let entry = |key: &str, value: &str| Entry { key: key.into(), value: value.into() };
    let external_data = vec![entry("location", location), entry("length", "64")];
    Tensor { external_data, data_location: vec![1], ..weight(FLOAT, &[16]) }
}

fn sparse(values: Tensor, indices: Tensor, dims: &[i64]) -> Sparse {
    Sparse { values: Some(values), indices: Some(indices), dims: dims.to_vec() }
}

fn one() -> Tensor {
    raw(FLOAT, &[1], 4)
}

fn first() -> Tensor {
    raw(INT64, &[1], 8)
}

fn nested(graphs: usize) -> Model {
    let inner = (1..graphs).fold(node("Neg", vec![]), |inner, _| {
        let g = Some(Graph { node: vec![inner], ..Graph::default() });
        node("If", vec![Attribute { g, ..Attribute::default() }])
    });
    of_nodes(vec![inner])
}

fn type_of_types(levels: usize) -> Type {
    (1..levels).fold(Type::default(), |inner, _| Type { sequence: Some(Box::new(Sequence { element: Some(Box::new(inner)) })) })
}

static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let set_up = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.sandmill/lib/libonnxruntime.so.1.31.1");
    let library = env::var_os("ORT_DYLIB_PATH").map_or(set_up, PathBuf::from);
    Engine::start(&library, &EngineOptions::default()).expect("the tests need the ONNX Runtime library: type `make setup`")
});

fn try_load(name: &str, bytes: Vec<u8>) -> Result<OnnxModel, LoadError> {
    let options = ModelOptions { threads: 1, ..ModelOptions::default() };
    ENGINE.load(ModelSource { name: name.to_owned(), bytes: bytes.into() }, &options)
}

fn load(name: &str, bytes: Vec<u8>) -> LoadError {
    try_load(name, bytes).err().unwrap_or_else(|| panic!("{name} was loaded"))
}

fn check_bytes(name: &str, bytes: Vec<u8>, expected: &str) {
    let error = load(name, bytes);
    assert!(matches!(error, LoadError::Refused(_)), "{name}: {error}");
    assert_eq!(error.to_string(), expected, "{name}");
}

fn check(name: &str, model: &Model, expected: &str) {
    check_bytes(name, model.encode_to_vec(), expected);
}

/// What only lacks a signature has passed: the runtime gets it, and has its own words.
fn check_passes(name: &str, model: &Model) {
    let error = load(name, model.encode_to_vec());
    assert!(!matches!(error, LoadError::Refused(_)), "{name}: {error}");
}

#[test]
fn what_is_no_model() {
    let whole = good().encode_to_vec();
    let cut = "no ONNX model that the runtime can load: the file is no protobuf message, or is cut off; fetch or export it again";
    let group = [&whole[..], &[0x0b, 0x0c]].concat();
    // The key of the graph's field, and a bit above the 32 that protobuf reads.
    let hidden = [&whole[..], &[0xba, 0x80, 0x80, 0x80, 0x10, 0x00]].concat();
    let cases = [
        ("a text", b"a text, and no model\n".to_vec()),
        ("a cut", whole[..whole.len() - 1].to_vec()),
        ("a length beyond the end", [&whole[..], &[0x3a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]].concat()),
        ("a number without end", [&[0x08][..], &[0xff; 20]].concat()),
        ("a field without a number", [&whole[..], &[0x00, 0x00]].concat()),
        ("a group", group),
        ("a hidden field", hidden),
        ("groups in groups", vec![0x0b; 100_000]),
    ];
    for (name, bytes) in cases {
        check_bytes(name, bytes, cut);
    }
    check_bytes("nothing", vec![], "no ONNX model that the runtime can load: the file is empty");
    let own = "no ONNX model that the runtime can load: the file is in ONNX Runtime's own format, which is not supported; \
               give the .onnx file that it was made from";
    check_bytes("flatbuffers", include_bytes!("models/scalar.ort").to_vec(), own);
    let no_graph = "no ONNX model that the runtime can load: the file has no graph; export it again";
    check("no graph", &Model { graph: None, ..good() }, no_graph);
}

#[test]
fn versions_that_the_runtime_does_not_know() {
    let version = |ir_version| Model { ir_version, ..good() };
    for (given, name) in [(None, "0"), (Some(2), "2"), (Some(14), "14"), (Some(i64::MIN), "-9223372036854775808")] {
        let expected =
            format!("the model's IR version is {name}, but must be from 3 to 13; export it again with `ir_version` set");
        check("ir version", &version(given), &expected);
    }
    let import = "the model does not import ONNX's own operators; export it again with an opset from 7 to 26";
    check("no opset", &of_opsets(vec![]), import);
    check("another's opset", &of_opsets(vec![opset(Some("com.microsoft"), 1)]), import);
    let opset_is = |given: i64| format!("the model's opset is {given}, but must be from 7 to 26; convert it, or export it again");
    check("an old opset", &of_opsets(vec![opset(None, 6)]), &opset_is(6));
    check("a future opset", &of_opsets(vec![opset(Some("ai.onnx"), 27)]), &opset_is(27));
    // The runtime takes the last, cut down to 32 bits.
    let twice = of_opsets(vec![opset(Some(""), 21), opset(None, 4_294_967_317)]);
    check("a second opset", &twice, &opset_is(4_294_967_317));
    let own = Function { opset_import: vec![opset(None, 1)], ..function("f", vec![]) };
    check("a function's opset", &Model { functions: vec![own], ..good() }, &opset_is(1));
    for bound in [7, 26] {
        check_passes("opset at its bound", &of_opsets(vec![opset(Some("ai.onnx"), bound), opset(Some("own"), 99)]));
    }
    for bound in [3, 13] {
        check_passes("ir version at its bound", &version(Some(bound)));
    }
}

#[test]
fn data_in_other_files_wherever_they_hide() {
    let at = |tensor: &str, location: &str| {
        format!("{tensor} keeps its data in another file, `{location}`, which is not supported; save the model as one file")
    };
    for location in ["w.bin", "/etc/passwd", "../../secret", "", "*/_ORT_MEM_ADDR_/*"] {
        check("an initialiser", &of_weights(vec![one(), external(location)]), &at("tensor `w`", location));
    }
    let secret = || external("secret");
    let no_list = Tensor { external_data: vec![], ..secret() };
    check("a location without a list", &of_weights(vec![no_list]), &at("tensor `w`", ""));
    let no_location = Tensor { data_location: vec![], ..secret() };
    check("a list without a location", &of_weights(vec![no_location]), &at("tensor `w`", "secret"));
    let undone = Tensor { data_location: vec![1, 0], ..secret() };
    check("a location that is taken back", &of_weights(vec![undone]), &at("tensor `w`", "secret"));
    let unknown = Tensor { data_location: vec![1, 7], external_data: vec![], ..secret() };
    check("a location that is then an unknown one", &of_weights(vec![unknown]), &at("tensor `w`", ""));
    check("sparse values", &of_sparse(vec![sparse(secret(), first(), &[9])]), &at("tensor `w`", "secret"));
    check("sparse indices", &of_sparse(vec![sparse(one(), secret(), &[9])]), &at("tensor `w`", "secret"));

    let graph = || Graph { initializer: vec![secret()], ..Graph::default() };
    let hidden = || nameless(secret());
    let in_attribute = [
        with(|it| it.t = Some(hidden())),
        with(|it| it.tensors = vec![nameless(one()), hidden()]),
        with(|it| it.sparse_tensor = Some(sparse(hidden(), first(), &[9]))),
        with(|it| it.sparse_tensors = vec![sparse(one(), hidden(), &[9])]),
    ];
    for model in &in_attribute {
        check("an attribute", model, &at("a tensor of `n`", "secret"));
    }
    check("a graph", &with(|it| it.g = Some(graph())), &at("tensor `w`", "secret"));
    check("a list of graphs", &with(|it| it.graphs = vec![Graph::default(), graph()]), &at("tensor `w`", "secret"));
    let inner = with(|it| it.g = Some(graph())).graph;
    check("a graph in a graph", &with(|it| it.g = inner.clone()), &at("tensor `w`", "secret"));
    let nodes = in_attribute[0].graph.clone().unwrap().node;
    let called = Model { functions: vec![function("f", nodes.clone())], ..good() };
    check("a function", &called, &at("a tensor of `n`", "secret"));
    let default = Function { attribute_proto: nodes[0].attribute.clone(), ..function("f", vec![]) };
    check("a function's default", &Model { functions: vec![default], ..good() }, &at("a tensor of `f`", "secret"));
    let twice = [good().encode_to_vec(), of_weights(vec![secret()]).encode_to_vec()].concat();
    check_bytes("a second graph", twice, &at("tensor `w`", "secret"));
}

#[test]
fn operators_that_nobody_has() {
    let compiled = "node `n` holds code compiled for certain hardware (`EPContext`); give the model that it was made from";
    check("a compiled node", &of_nodes(vec![call("com.microsoft", "EPContext")]), compiled);
    check("a compiled node of any domain", &with(|it| it.g = of_nodes(vec![call("own", "EPContext")]).graph), compiled);
    let in_function = |node| Model { functions: vec![function("f", vec![node])], ..good() };
    check("a compiled node in a function", &in_function(node("EPContext", vec![])), compiled);

    let unknown = |domain: &str| {
        format!(
            "node `n` has an operator of the domain `{domain}`, which is not supported; \
             export the model with ONNX's own operators, or with those of that domain as functions"
        )
    };
    for domain in ["other", "ai.onnx.contrib", "com.microsoft.extensions", "AI.ONNX"] {
        check("a domain", &of_nodes(vec![call(domain, "Neg")]), &unknown(domain));
    }
    check("a domain in a function", &in_function(call("other", "Neg")), &unknown("other"));
    check("a name", &of_nodes(vec![call("a\u{1b}[2J`\n\u{202e}", "Neg")]), &unknown("a?[2J???"));
    let name = vec![0xff; 1_000_000];
    let long = of_nodes(vec![Node { name, ..call("other", "Neg") }]);
    check("a long name", &long, &unknown("other").replace("`n`", &format!("`{}…`", "?".repeat(128))));
    for domain in ["ai.onnx.ml", "ai.onnx.training", "com.microsoft", "com.microsoft.nchwc"] {
        check_passes("a domain of the runtime's", &of_nodes(vec![call(domain, "Neg")]));
    }
    check_passes("a function's domain", &chain(2, 1));
}

#[test]
fn shapes_that_cannot_be() {
    let wrong = |tensor: &str, wrong: &str| format!("{tensor} has {wrong}; export the model again");
    let uncountable = wrong("tensor `w`", "more elements than can be counted");
    check("an axis too many", &of_weights(vec![weight(FLOAT, &[1; 65])]), &wrong("tensor `w`", "more than 64 axes"));
    check("a negative axis", &of_weights(vec![weight(FLOAT, &[2, -1])]), &wrong("tensor `w`", "an axis of a negative size"));
    check("two negative axes", &of_weights(vec![weight(FLOAT, &[-1, -1])]), &wrong("tensor `w`", "an axis of a negative size"));
    check("too many elements", &of_weights(vec![weight(FLOAT, &[1 << 32, 1 << 31])]), &uncountable);
    check("too many elements of none", &of_weights(vec![weight(FLOAT, &[i64::MAX, 2, 0])]), &uncountable);
    check("sparse", &of_sparse(vec![sparse(one(), first(), &[i64::MAX, 2])]), &uncountable);
    let attribute = with(|it| it.t = Some(nameless(weight(FLOAT, &[-5]))));
    check("an attribute", &attribute, &wrong("a tensor of `n`", "an axis of a negative size"));
    check_passes("64 axes", &of_weights(vec![raw(FLOAT, &[1; 64], 4)]));
    check_passes("no elements", &of_weights(vec![weight(FLOAT, &[0, 1 << 40])]));
}

#[test]
fn tensors_that_lie() {
    let claim = |claimed: u128, there: usize| {
        format!(
            "tensor `w` claims {claimed} bytes or more, but the file has only {there} for it; fetch or export the model again"
        )
    };
    check("raw", &of_weights(vec![raw(FLOAT, &[3], 11)]), &claim(12, 11));
    check("half a byte", &of_weights(vec![raw(22, &[3], 1)]), &claim(2, 1));
    check("nothing at all", &of_weights(vec![raw(FLOAT, &[1 << 40], 0)]), &claim(1 << 42, 0));
    check("the largest", &of_weights(vec![raw(15, &[i64::MAX], 0)]), &claim((i64::MAX as u128) << 4, 0));
    let bomb = of_weights(vec![weight(FLOAT, &[1 << 30])]);
    check("no data", &bomb, &claim(1 << 32, bomb.encode_to_vec().len()));
    // Each of them could be as large as the file, but not all.
    let mut many = of_weights(vec![weight(9, &[1000]); 20]);
    many.graph.as_mut().unwrap().initializer.push(raw(9, &[1500], 1500));
    let len = many.encode_to_vec().len();
    assert!((1500..2000).contains(&len), "{len}");
    check("all together", &many, &claim(1000, len - 1000));
    let pieces = Attribute { t: Some(weight(FLOAT, &[1000])), ..Attribute::default() }.encode_to_vec();
    let again = Attribute { t: Some(weight(FLOAT, &[1000])), ..Attribute::default() }.encode_to_vec();
    let node = [&[0x2a, u8::try_from(pieces.len() * 2).unwrap()][..], &pieces, &again].concat();
    let graph = [&[0x0a, u8::try_from(node.len()).unwrap()][..], &node].concat();
    let head = Model { graph: None, ..good() }.encode_to_vec();
    let model = [&head[..], &[0x3a, u8::try_from(graph.len()).unwrap()], &graph].concat();
    let len = model.len();
    check_bytes("in two pieces", model, &claim(4_000_000, len));
    // Zeros take a byte each, not eight.
    check_passes("short integers", &of_weights(vec![Tensor { int64_data: vec![0; 1000], ..weight(INT64, &[1000]) }]));

    let sparse_bomb =
        "with tensor `w`, the sparse tensors have more than 268435456 bytes when made dense; save it as a dense one";
    let sparse = |elements| sparse(one(), first(), &[elements]);
    check("sparse", &of_sparse(vec![sparse(1 << 40)]), sparse_bomb);
    check("several sparse ones", &of_sparse(vec![sparse(33 << 20); 2]), sparse_bomb);
    let attribute = with(|it| it.sparse_tensors = vec![sparse(1 << 40)]);
    check("a sparse attribute", &attribute, sparse_bomb);
}

#[test]
fn too_much_of_anything() {
    let many = |max: usize, what: &str| format!("the model has more than {max} {what}; make it smaller, or split it");
    let deep =
        |max: usize, what: &str| format!("the model has more than {max} {what} within one another; export it with less nesting");
    check("nodes", &of_nodes(vec![Node::default(); 200_001]), &many(200_000, "nodes"));
    check("initialisers", &of_weights(vec![weight(FLOAT, &[0]); 100_001]), &many(100_000, "initializers"));
    let functions = Model { functions: vec![Function::default(); 10_001], ..good() };
    check("functions", &functions, &many(10_000, "functions"));
    let attributes = of_nodes(vec![node("Neg", vec![Attribute::default(); 1_000_001])]);
    check("attributes", &attributes, &many(1_000_000, "attributes"));
    // Written by hand: twenty bytes of memory for each of the file's are enough.
    let inputs = [0x5a, 0x00].repeat(10_000_001);
    let head = Model { graph: None, ..good() }.encode_to_vec();
    let mut graph = vec![0x3a];
    prost::encode_length_delimiter(inputs.len(), &mut graph).unwrap();
    check_bytes("inputs", [head, graph, inputs].concat(), &many(10_000_000, "messages and texts"));

    check("graphs in graphs", &nested(33), &deep(32, "graphs"));
    check("a hundred graphs", &nested(100), &deep(32, "graphs"));
    let input = vec![ValueInfo { kind: Some(type_of_types(33)) }];
    check("types in types", &of_graph(Graph { input, ..Graph::default() }), &deep(32, "types"));
    check("types in an attribute", &with(|it| it.tp = Some(type_of_types(33))), &deep(32, "types"));
    check_passes("graphs as deep as allowed", &nested(32));
    // What the runtime cannot take: its recursion ends the process.
    check("functions in functions", &chain(1000, 1), &deep(64, "functions and graphs"));
    // A kilobyte that takes the runtime minutes.
    check("functions that double", &chain(18, 2), &many(200_000, "nodes when its functions are inlined"));
    check("functions that double for ever", &chain(64, 2), &many(200_000, "nodes when its functions are inlined"));
    let circle = "the model's functions call one another in a circle; export it with its functions inlined";
    let ring = vec![function("f", vec![call("own", "g")]), function("g", vec![call("own", "f")])];
    check("a circle", &Model { functions: ring, ..good() }, circle);
    let hidden = with(|it| it.g = of_nodes(vec![call("own", "f")]).graph).graph.unwrap().node;
    check("a circle through a graph", &Model { functions: vec![function("f", hidden)], ..good() }, circle);
}

#[test]
fn what_is_not_for_inference_here() {
    let expected = |what: &str| format!("the model brings {what}, which is not supported; export it for inference on one device");
    let training = Model { training_info: vec![Opset::default()], ..good() };
    check("training", &training, &expected("a training of its own"));
    let devices = Model { configuration: vec![Opset::default()], ..good() };
    check("devices", &devices, &expected("a plan for several devices"));
    let placed = Node { device_configurations: vec![Opset::default()], ..node("Neg", vec![]) };
    check("a node's device", &of_nodes(vec![placed]), &expected("a plan for several devices"));
}

#[test]
fn a_refused_model_is_not_loaded() {
    let model = include_bytes!("models/scalar.onnx");
    // Of a field that is there twice, the last counts; the runtime alone would load all of these.
    let with_version = |version| try_load("scalar", [&model[..], &[0x08, version]].concat());
    assert!(with_version(3).is_ok() && with_version(13).is_ok());
    let error = with_version(2).err().expect("it is refused");
    assert!(matches!(error, LoadError::Refused(Refusal::IrVersion { given: 2 })), "{error}");
}
