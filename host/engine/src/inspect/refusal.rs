//! Why a model is not shown to the runtime, in words for whoever deploys it.

use thiserror::Error;

use super::{IR_VERSIONS, OPSETS, SPARSE_BYTES_MAX};

/// Of a name in a message.
const NAME_BYTES_MAX: usize = 128;

/// Why a model is not even shown to the runtime. Names are a stranger's: printable, and cut to 128 bytes.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    /// There is nothing.
    #[error("no ONNX model that the runtime can load: the file is empty")]
    Empty,
    /// It cannot be read, or ends too early.
    #[error("no ONNX model that the runtime can load: the file is no protobuf message, or is cut off; fetch or export it again")]
    NotProtobuf,
    /// It is in ONNX Runtime's flatbuffers.
    #[error(
        "no ONNX model that the runtime can load: the file is in ONNX Runtime's own format, which is not supported; \
         give the .onnx file that it was made from"
    )]
    Flatbuffers,
    /// It is a message, but says no graph.
    #[error("no ONNX model that the runtime can load: the file has no graph; export it again")]
    NoGraph,
    /// Its version of the format is not known.
    #[error("the model's IR version is {given}, but must be from {} to {}; export it again with `ir_version` set", IR_VERSIONS.start(), IR_VERSIONS.end())]
    IrVersion {
        /// What the file says; 0 if nothing.
        given: i64,
    },
    /// It does not say which version of ONNX's operators it means.
    #[error("the model does not import ONNX's own operators; export it again with an opset from {} to {}", OPSETS.start(), OPSETS.end())]
    NoOpset,
    /// That version is not known.
    #[error("the model's opset is {given}, but must be from {} to {}; convert it, or export it again", OPSETS.start(), OPSETS.end())]
    Opset {
        /// What the file says.
        given: i64,
    },
    /// It is for training or for several machines.
    #[error("the model brings {what}, which is not supported; export it for inference on one device")]
    Unsupported {
        /// What it brings.
        what: &'static str,
    },
    /// There is too much of something.
    #[error("the model has more than {max} {what}; make it smaller, or split it")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many are allowed.
        max: usize,
    },
    /// Graphs, types or functions lie too deep in one another.
    #[error("the model has more than {max} {what} within one another; export it with less nesting")]
    TooDeep {
        /// Which.
        what: &'static str,
        /// How many are allowed.
        max: usize,
    },
    /// A function calls itself, at once or by way of others.
    #[error("the model's functions call one another in a circle; export it with its functions inlined")]
    Circle,
    /// A tensor's elements are in another file.
    #[error("{tensor} keeps its data in another file, `{location}`, which is not supported; save the model as one file")]
    ExternalData {
        /// Which tensor.
        tensor: String,
        /// The file that it asks for.
        location: String,
    },
    /// A tensor's shape cannot be.
    #[error("{tensor} has {wrong}; export the model again")]
    Shape {
        /// Which tensor.
        tensor: String,
        /// What is wrong with it.
        wrong: &'static str,
    },
    /// A tensor claims elements that it does not bring.
    #[error("{tensor} claims {claimed} bytes or more, but the file has only {there} for it; fetch or export the model again")]
    Claim {
        /// Which tensor.
        tensor: String,
        /// The bytes that its shape and type claim.
        claimed: u128,
        /// The bytes that it can have at best.
        there: u64,
    },
    /// A sparse tensor becomes too large.
    #[error("with {tensor}, the sparse tensors have more than {SPARSE_BYTES_MAX} bytes when made dense; save it as a dense one")]
    Sparse {
        /// Which tensor.
        tensor: String,
    },
    /// A node holds what a compiler made for certain hardware.
    #[error("node `{node}` holds code compiled for certain hardware (`EPContext`); give the model that it was made from")]
    Compiled {
        /// Which node.
        node: String,
    },
    /// A node's operator is nobody's.
    #[error(
        "node `{node}` has an operator of the domain `{domain}`, which is not supported; \
         export the model with ONNX's own operators, or with those of that domain as functions"
    )]
    Domain {
        /// Which node.
        node: String,
        /// Which domain.
        domain: String,
    },
}

/// A tensor in the words of a message; one of an attribute has seldom a name of its own.
pub(super) fn label(tensor: &[u8], node: &[u8]) -> String {
    if tensor.is_empty() && !node.is_empty() {
        format!("a tensor of `{}`", shown(node))
    } else {
        format!("tensor `{}`", shown(tensor))
    }
}

/// A stranger's name: cut, and with a question mark for each character that cannot be seen, or would end the quote.
pub(super) fn shown(name: &[u8]) -> String {
    let cut = &name[..name.len().min(NAME_BYTES_MAX)];
    let is_plain = |letter: char| matches!(letter, '\'' | '"' | '\\') || letter.escape_debug().nth(1).is_none();
    let is_fine = |letter: char| letter != '`' && letter != char::REPLACEMENT_CHARACTER && is_plain(letter);
    let text = String::from_utf8_lossy(cut);
    let text: String = text.chars().map(|letter| if is_fine(letter) { letter } else { '?' }).collect();
    if cut.len() < name.len() { format!("{text}…") } else { text }
}
