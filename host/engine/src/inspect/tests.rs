//! What is seen in models that pass. What hostile ones are refused with is in `tests/hostile_models.rs`.

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use prost::Message;

use super::*;

/// Graphs, and what they can hide in, for prost: it writes them, and reads them by another hand.
#[derive(Clone, PartialEq, Message)]
struct Model {
    #[prost(int64, optional, tag = "1")]
    ir_version: Option<i64>,
    #[prost(message, optional, tag = "7")]
    graph: Option<Graph>,
    #[prost(message, repeated, tag = "8")]
    opset_import: Vec<Opset>,
    #[prost(message, repeated, tag = "25")]
    functions: Vec<Function>,
}

#[derive(Clone, PartialEq, Message)]
struct Opset {
    #[prost(int64, optional, tag = "2")]
    version: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Function {
    #[prost(message, repeated, tag = "7")]
    node: Vec<Node>,
    #[prost(message, repeated, tag = "11")]
    attribute_proto: Vec<Attribute>,
}

#[derive(Clone, PartialEq, Message)]
struct Graph {
    #[prost(message, repeated, tag = "1")]
    node: Vec<Node>,
}

#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(bytes = "vec", optional, tag = "4")]
    op_type: Option<Vec<u8>>,
    #[prost(message, repeated, tag = "5")]
    attribute: Vec<Attribute>,
}

#[derive(Clone, PartialEq, Message)]
struct Attribute {
    #[prost(message, optional, tag = "6")]
    g: Option<Graph>,
    #[prost(message, repeated, tag = "11")]
    graphs: Vec<Graph>,
}

fn model(node: Vec<Node>, functions: Vec<Function>) -> Model {
    let opset_import = vec![Opset { version: Some(21) }];
    Model { ir_version: Some(10), graph: Some(Graph { node }), opset_import, functions }
}

fn node(op_type: &str, attribute: Vec<Attribute>) -> Node {
    Node { op_type: Some(op_type.into()), attribute }
}

fn body(node: Node) -> Attribute {
    Attribute { g: Some(Graph { node: vec![node] }), ..Attribute::default() }
}

#[test]
fn control_flow_is_seen_wherever_it_hides() {
    let neg = || node("Neg", vec![]);
    let hidden = |op_type| Function { node: vec![neg(), node(op_type, vec![])], ..Function::default() };
    let default = Function { attribute_proto: vec![body(neg())], ..Function::default() };
    let graphs = Attribute { graphs: vec![Graph::default(), Graph { node: vec![neg()] }], ..Attribute::default() };
    let cases = [
        ("none", model(vec![neg(), neg()], vec![hidden("Neg")]), false, 4),
        ("a name alone", model(vec![node("Looping", vec![])], vec![]), false, 1),
        ("a loop", model(vec![neg(), node("Loop", vec![])], vec![]), true, 2),
        ("a scan", model(vec![node("Scan", vec![])], vec![]), true, 1),
        ("a branch", model(vec![node("If", vec![body(neg())])], vec![]), true, 2),
        ("a loop of another name", model(vec![node("SequenceMap", vec![body(neg())])], vec![]), true, 2),
        ("a list of graphs", model(vec![node("Neg", vec![graphs])], vec![]), true, 2),
        ("a branch in a graph", model(vec![node("Neg", vec![body(node("If", vec![]))])], vec![]), true, 2),
        ("a loop in a function", model(vec![], vec![hidden("Neg"), hidden("Loop")]), true, 4),
        ("a graph that a function's attribute defaults to", model(vec![], vec![default]), true, 1),
    ];
    for (name, model, control_flow, nodes) in cases {
        assert_eq!(inspect(&model.encode_to_vec()), Ok(Seen { control_flow, nodes, ..Seen::default() }), "{name}");
    }
}

#[test]
fn operators_that_make_runs_hard_to_tell_are_seen() {
    let seen = |op_type| inspect(&model(vec![node("Neg", vec![]), node(op_type, vec![])], vec![]).encode_to_vec()).unwrap();
    assert!(seen("Range").sized_by_values && seen("Expand").sized_by_values && !seen("MatMul").sized_by_values);
    assert!(seen("DynamicQuantizeLinear").mixes_rows && !seen("QuantizeLinear").mixes_rows);
}

#[test]
fn axes_that_vary_are_seen_unless_they_are_first() {
    /// A message's field, of fewer than 128 bytes.
    fn field(number: u8, parts: &[Vec<u8>]) -> Vec<u8> {
        let content = parts.concat();
        [vec![number << 3 | 2, u8::try_from(content.len()).unwrap()], content].concat()
    }
    let (fixed, named, unknown) = (vec![0x08, 3], field(2, &[b"n".to_vec()]), vec![]);
    let negative = [vec![0x08], vec![0xff; 9], vec![0x01]].concat();
    let seen = |axes: &[&Vec<u8>]| {
        let axes = Vec::from_iter(axes.iter().map(|axis| field(1, &[axis.to_vec()])));
        let input = field(11, &[field(2, &[field(1, &[field(2, &axes)])])]);
        inspect(&[model(vec![], vec![]).encode_to_vec(), field(7, &[input])].concat()).unwrap().free_axes
    };
    assert!(!seen(&[]) && !seen(&[&fixed, &fixed]) && !seen(&[&named, &fixed]) && !seen(&[&unknown, &fixed]));
    for free in [&named, &unknown, &negative] {
        assert!(seen(&[&fixed, free]) && seen(&[&named, &fixed, free]), "{free:?}");
    }
}

/// The models of the tests and of those examples that were fetched or made.
fn real_models() -> Vec<PathBuf> {
    let list = |folder: PathBuf| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let tests = list(folder.join("tests/models")).filter(|path| path.extension().is_some_and(|kind| kind == "onnx"));
    let examples = list(folder.join("../../examples")).map(|example| example.join("model.onnx"));
    tests.chain(examples.filter(|path| path.is_file())).collect()
}

#[test]
fn real_models_pass() {
    let models = real_models();
    assert!(models.len() > 18, "{models:?}");
    for path in models.iter().filter(|path| !path.ends_with("external.onnx")) {
        let seen = inspect(&fs::read(path).unwrap()).unwrap_or_else(|refusal| panic!("{}: {refusal}", path.display()));
        assert!(seen.nodes > 0, "{}", path.display());
        let has_loop = path.ends_with("loop.onnx") || path.ends_with("endless.onnx");
        assert!(seen.control_flow || !has_loop, "{}", path.display());
    }
}

#[test]
fn counts_end_where_they_say() {
    let with = |nodes| inspect(&model(vec![Node::default(); nodes], vec![]).encode_to_vec());
    assert_eq!(with(NODES_MAX), Ok(Seen { nodes: NODES_MAX, ..Seen::default() }));
    assert_eq!(with(NODES_MAX + 1), Err(Refusal::TooMany { what: "nodes", max: NODES_MAX }));
    let nested = |graphs| {
        let innermost = (1..graphs).fold(node("Neg", vec![]), |inner, _| node("If", vec![body(inner)]));
        inspect(&model(vec![innermost], vec![]).encode_to_vec())
    };
    assert_eq!(nested(GRAPH_DEPTH_MAX).map(|seen| seen.nodes), Ok(GRAPH_DEPTH_MAX));
    assert_eq!(nested(GRAPH_DEPTH_MAX + 1), Err(Refusal::TooDeep { what: "graphs", max: GRAPH_DEPTH_MAX }));
}

#[test]
fn names_are_printable_and_short() {
    let long = "x".repeat(200);
    let cut = format!("{}…", "x".repeat(128));
    let cases = [
        ("layer.0/Conv_1", "layer.0/Conv_1"),
        ("größe [\"n\"] \\ 'm'", "größe [\"n\"] \\ 'm'"),
        ("", ""),
        ("`; rm", "?; rm"),
        ("a\nb\x1b[31m\u{202e}\u{200b}", "a?b?[31m??"),
        (&long, &cut),
    ];
    for (name, expected) in cases {
        assert_eq!(shown(name.as_bytes()), expected);
    }
    assert_eq!(shown(b"a\xff\0b"), "a??b");
}

/// All nodes, as prost finds them.
fn count(nodes: &[Node]) -> usize {
    nodes.iter().map(|node| 1 + count_within(&node.attribute)).sum()
}

fn count_within(attributes: &[Attribute]) -> usize {
    attributes.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs)).map(|graph| count(&graph.node)).sum()
}

/// What passes has the nodes that prost finds in it, if prost, which is stricter about fields of a wrong kind, reads it.
fn check_against_prost(bytes: &[u8]) {
    if let (Ok(seen), Ok(model)) = (inspect(bytes), Model::decode(bytes)) {
        let functions = model.functions.iter().map(|body| count(&body.node) + count_within(&body.attribute_proto));
        let graph = model.graph.iter().map(|graph| count(&graph.node));
        assert_eq!(seen.nodes, graph.chain(functions).sum::<usize>());
    }
}

/// A small model with a loop, an initialiser and an attribute of each kind that matters.
const SMALL: &[u8] = include_bytes!("../../tests/models/endless.onnx");

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        check_against_prost(&bytes);
    }

    #[test]
    fn a_mutated_model_is_read_as_prost_reads_it(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
        again in any::<prop::sample::Index>(),
    ) {
        let mut bytes = SMALL.to_vec();
        for (place, byte) in &changes {
            bytes[place.index(SMALL.len())] = *byte;
        }
        check_against_prost(&bytes);
        check_against_prost(&bytes[..cut.index(bytes.len())]);
        // One after another, they are one model to protobuf.
        check_against_prost(&[&bytes, &SMALL[again.index(SMALL.len())..]].concat());
        check_against_prost(&[SMALL, &bytes].concat());
    }
}
