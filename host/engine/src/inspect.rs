//! Looks through the bytes of an ONNX file before the runtime gets them, and refuses what is hostile or not supported. Knows
//! nothing of the runtime but what it was seen to do; whether operators, types and shapes fit together is the runtime's matter.
//!
//! The file is read where it lies, field by field: messages decoded into structs take 60 times the bytes of the smallest ones,
//! and the file may have 2 GiB. Two readers of one format must not differ, or what is refused here can be hidden from it: what
//! protobuf's own parser takes is read as it reads it, and what that never writes is refused.
//!
//! <https://github.com/onnx/onnx/blob/v1.23.2/onnx/onnx.proto>, <https://protobuf.dev/programming-guides/encoding/>

mod refusal;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

pub use refusal::Refusal;
use refusal::{label, shown};
use wire::{Value, next_field, texts, varint};

/// Of all graphs and functions, and once more when each call of a function is replaced by its body. Exports of large
/// networks have tens of thousands; the runtime needs 11 s and 600 MiB for a mere chain of as many as this.
const NODES_MAX: usize = 200_000;
/// Dense and sparse, of all graphs. Large language models have some thousands.
const INITIALIZERS_MAX: usize = 100_000;
/// PyTorch's exporter makes one of each kind of layer, or of each layer: thousands at worst.
const FUNCTIONS_MAX: usize = 10_000;
/// Five per node; the models of the examples have one at most on average.
const ATTRIBUTES_MAX: usize = 1_000_000;
/// All messages, texts and packed lists, empty ones included: the runtime makes 90 bytes or more of two. 10 million of the
/// smallest took 900 MiB of its memory; a graph with as many nodes as allowed has some 4 million.
const PARTS_MAX: usize = 10_000_000;
/// Each graph within a graph is three messages deeper, and protobuf reads 100. Types within types are held to the same.
const GRAPH_DEPTH_MAX: usize = 32;
/// Graphs and functions within one another when each call of a function is replaced by its body. The runtime recurses: on a
/// thread with a stack of 2 MiB it crashes somewhere between 500 and 1000 functions.
const CALL_DEPTH_MAX: usize = 64;
/// numpy's own bound since its version 2; ONNX has none.
const RANK_MAX: usize = 64;
/// Sparse tensors when they are made dense, all together: the runtime does so at once, and holds each twice meanwhile.
const SPARSE_BYTES_MAX: u64 = 256 << 20;

/// The first with operator sets and domains, and the newest that ONNX Runtime 1.31 reads: it refuses 14 by this number.
const IR_VERSIONS: RangeInclusive<i64> = 3..=13;
/// The oldest that ONNX Runtime guarantees, and the newest that 1.31 counts as released: it refuses 27, of which it has a part.
const OPSETS: RangeInclusive<i64> = 7..=26;
/// The domains whose operators the runtime has, or may have; the first two are one.
const DOMAINS: [&[u8]; 6] = [b"", b"ai.onnx", b"ai.onnx.ml", b"ai.onnx.training", b"com.microsoft", b"com.microsoft.nchwc"];

/// Operators whose outputs are as large as a value says: what a run costs cannot be told from the shapes of its inputs.
const SIZED_BY_VALUES: [&[u8]; 18] = [
    b"Range",
    b"ConstantOfShape",
    b"Expand",
    b"Tile",
    b"Resize",
    b"Upsample",
    b"Pad",
    b"OneHot",
    b"CenterCropPad",
    b"Col2Im",
    b"MaxUnpool",
    b"AffineGrid",
    b"DFT",
    b"STFT",
    b"MelWeightMatrix",
    b"HannWindow",
    b"HammingWindow",
    b"BlackmanWindow",
];
/// Operators that take one scale for all rows.
const MIXES_ROWS: &[u8] = b"DynamicQuantize";

/// What was seen on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Whether something runs graphs within the graph: `Loop`, `Scan`, `If` or another node that has some, also in functions.
    pub(crate) control_flow: bool,
    /// Whether the values of its inputs may decide how large something becomes.
    pub(crate) sized_by_values: bool,
    /// Whether it quantises as it runs: then the answer for a row depends on the others.
    pub(crate) mixes_rows: bool,
    /// Whether an axis of an input varies that is not its first.
    pub(crate) free_axes: bool,
    /// Of all graphs and functions, as they are in the file.
    pub(crate) nodes: usize,
}

/// Looks through an ONNX file, once for its heads and once for all of it; takes next to no memory.
pub(crate) fn inspect(file: &[u8]) -> Result<Seen, Refusal> {
    if file.is_empty() {
        return Err(Refusal::Empty);
    }
    if file.get(4..8) == Some(b"ORTM") {
        return Err(Refusal::Flatbuffers);
    }
    let functions = read_heads(file)?;
    let mut walk = Walk::new(file, &functions);
    walk.model(file)?;
    check_calls(&walk.bodies)?;
    Ok(Seen { nodes: walk.nodes.seen, ..walk.seen })
}

/// Checks what a model says of itself, and lists its functions.
fn read_heads(mut rest: &[u8]) -> Result<Functions<'_>, Refusal> {
    let (mut ir_version, mut opset, mut has_graph) = (0, false, false);
    let (mut functions, mut count) = (Functions::default(), Count::new("functions", FUNCTIONS_MAX));
    while let Some(field) = next_field(&mut rest)? {
        match field {
            (1, Value::Number(version)) => ir_version = version.cast_signed(),
            (7, Value::Bytes(_)) => has_graph = true,
            (8, Value::Bytes(import)) => opset |= reads_onnx(import)?,
            (20, Value::Bytes(_)) => return Err(Refusal::Unsupported { what: "a training of its own" }),
            (25, Value::Bytes(function)) => {
                count.add()?;
                functions.add(function)?;
            }
            (26, Value::Bytes(_)) => return Err(Refusal::Unsupported { what: "a plan for several devices" }),
            _ => {}
        }
    }
    match (has_graph, IR_VERSIONS.contains(&ir_version), opset) {
        (false, ..) => Err(Refusal::NoGraph),
        (_, false, _) => Err(Refusal::IrVersion { given: ir_version }),
        (_, _, false) => Err(Refusal::NoOpset),
        _ => Ok(functions),
    }
}

/// Whether an import is that of ONNX's own operators, in a version that is known.
fn reads_onnx(mut import: &[u8]) -> Result<bool, Refusal> {
    let [domain] = texts(import, [1])?;
    let mut given = 0;
    while let Some(field) = next_field(&mut import)? {
        if let (2, Value::Number(version)) = field {
            given = version.cast_signed();
        }
    }
    match plain(domain) {
        [] if !OPSETS.contains(&given) => Err(Refusal::Opset { given }),
        domain => Ok(domain.is_empty()),
    }
}

/// ONNX's own domain has two names.
fn plain(domain: &[u8]) -> &[u8] {
    if domain == b"ai.onnx" { b"" } else { domain }
}

/// An operator: domain, name, and which of several with this name.
type Operator<'a> = [&'a [u8]; 3];

/// The functions that a model brings.
#[derive(Default)]
struct Functions<'a> {
    count: usize,
    places: BTreeMap<Operator<'a>, usize>,
    domains: BTreeSet<&'a [u8]>,
}

impl<'a> Functions<'a> {
    fn add(&mut self, function: &'a [u8]) -> Result<(), Refusal> {
        let [name, domain, overload] = texts(function, [1, 10, 13])?;
        self.count += 1;
        // Of two with one name, the runtime takes the last.
        self.places.insert([plain(domain), name, overload], self.count);
        self.domains.insert(domain);
        Ok(())
    }
}

/// The graph, or what a function consists of.
#[derive(Clone, Default)]
struct Body {
    nodes: u64,
    /// The places of the functions that it calls, and in how many graphs each call lies.
    calls: Vec<(usize, usize)>,
}

/// Checks what becomes of a model whose calls are replaced by what they call: a function that calls one twice, which calls one
/// twice, makes a billion nodes in thirty lines.
fn check_calls(bodies: &[Body]) -> Result<(), Refusal> {
    let mut callers = vec![0_usize; bodies.len()];
    bodies.iter().flat_map(|body| &body.calls).for_each(|(callee, _)| callers[*callee] += 1);
    // The model's own graph has the first place, and nobody calls it.
    let (mut times, mut depths) = (vec![0_u64; bodies.len()], vec![0_usize; bodies.len()]);
    times[0] = 1;
    let mut ready: Vec<usize> = (0..bodies.len()).filter(|place| callers[*place] == 0).collect();
    let (mut done, mut nodes) = (0, 0_u64);
    while let Some(place) = ready.pop() {
        done += 1;
        nodes = nodes.saturating_add(times[place].saturating_mul(bodies[place].nodes));
        for (callee, depth) in &bodies[place].calls {
            times[*callee] = times[*callee].saturating_add(times[place]);
            depths[*callee] = depths[*callee].max(depths[place] + depth);
            callers[*callee] -= 1;
            if callers[*callee] == 0 {
                ready.push(*callee);
            }
        }
    }
    if done < bodies.len() {
        return Err(Refusal::Circle);
    }
    if depths.iter().any(|depth| *depth > CALL_DEPTH_MAX) {
        return Err(Refusal::TooDeep { what: "functions and graphs", max: CALL_DEPTH_MAX });
    }
    if nodes > NODES_MAX as u64 {
        return Err(Refusal::TooMany { what: "nodes when its functions are inlined", max: NODES_MAX });
    }
    Ok(())
}

/// How many there are of something.
struct Count {
    what: &'static str,
    max: usize,
    seen: usize,
}

impl Count {
    fn new(what: &'static str, max: usize) -> Self {
        Self { what, max, seen: 0 }
    }

    fn add(&mut self) -> Result<(), Refusal> {
        self.seen += 1;
        if self.seen > self.max { Err(Refusal::TooMany { what: self.what, max: self.max }) } else { Ok(()) }
    }
}

/// A way through the whole file. Each step reads one message; the numbers are those of its fields.
struct Walk<'a> {
    functions: &'a Functions<'a>,
    nodes: Count,
    initializers: Count,
    attributes: Count,
    parts: Count,
    /// The file's bytes that no tensor has claimed.
    bytes_left: u64,
    sparse_bytes_left: u64,
    bodies: Vec<Body>,
    /// The place of the body that is walked.
    body: usize,
    seen: Seen,
}

impl<'a> Walk<'a> {
    fn new(file: &[u8], functions: &'a Functions<'a>) -> Self {
        Self {
            functions,
            nodes: Count::new("nodes", NODES_MAX),
            initializers: Count::new("initializers", INITIALIZERS_MAX),
            attributes: Count::new("attributes", ATTRIBUTES_MAX),
            parts: Count::new("messages and texts", PARTS_MAX),
            bytes_left: file.len() as u64,
            sparse_bytes_left: SPARSE_BYTES_MAX,
            bodies: vec![Body::default(); functions.count + 1],
            body: 0,
            seen: Seen::default(),
        }
    }

    fn next(&mut self, rest: &mut &'a [u8]) -> Result<Option<(u64, Value<'a>)>, Refusal> {
        let field = next_field(rest)?;
        if let Some((_, Value::Bytes(_))) = field {
            self.parts.add()?;
        }
        Ok(field)
    }

    fn model(&mut self, mut rest: &'a [u8]) -> Result<(), Refusal> {
        let mut functions = 0;
        while let Some(field) = self.next(&mut rest)? {
            match field {
                (7, Value::Bytes(graph)) => {
                    self.body = 0;
                    self.graph(graph, 1)?;
                }
                (25, Value::Bytes(function)) => {
                    functions += 1;
                    self.body = functions;
                    self.function(function)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn function(&mut self, mut rest: &'a [u8]) -> Result<(), Refusal> {
        let [name] = texts(rest, [1])?;
        while let Some(field) = self.next(&mut rest)? {
            match field {
                (7, Value::Bytes(node)) => self.node(node, 1)?,
                (9, Value::Bytes(import)) => _ = reads_onnx(import)?,
                (11, Value::Bytes(default)) => self.attribute(default, 1, name)?,
                (12, Value::Bytes(value)) => self.value(value)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn graph(&mut self, mut rest: &'a [u8], depth: usize) -> Result<(), Refusal> {
        if depth > GRAPH_DEPTH_MAX {
            return Err(Refusal::TooDeep { what: "graphs", max: GRAPH_DEPTH_MAX });
        }
        while let Some(field) = self.next(&mut rest)? {
            match field {
                (1, Value::Bytes(node)) => self.node(node, depth)?,
                (5, Value::Bytes(tensor)) => {
                    self.initializers.add()?;
                    self.tensor(tensor, b"")?;
                }
                (15, Value::Bytes(sparse)) => {
                    self.initializers.add()?;
                    self.sparse_tensor(sparse, b"")?;
                }
                (11, Value::Bytes(input)) => {
                    self.value(input)?;
                    self.each(input, 2, |walk, kind| walk.each(kind, 1, |walk, tensor| walk.each(tensor, 2, Self::axes)))?;
                }
                (12 | 13, Value::Bytes(value)) => self.value(value)?,
                (14, Value::Bytes(annotation)) => self.each(annotation, 2, |_, _| Ok(()))?,
                _ => {}
            }
        }
        Ok(())
    }

    fn node(&mut self, mut rest: &'a [u8], depth: usize) -> Result<(), Refusal> {
        self.nodes.add()?;
        let [name, op_type, domain, overload] = texts(rest, [3, 4, 7, 8])?;
        let label = if name.is_empty() { op_type } else { name };
        if op_type == b"EPContext" {
            return Err(Refusal::Compiled { node: shown(label) });
        }
        if !DOMAINS.contains(&domain) && !self.functions.domains.contains(domain) {
            return Err(Refusal::Domain { node: shown(label), domain: shown(domain) });
        }
        let body = &mut self.bodies[self.body];
        body.nodes += 1;
        body.calls.extend(self.functions.places.get(&[plain(domain), op_type, overload]).map(|place| (*place, depth)));
        self.seen.control_flow |= [&b"Loop"[..], b"Scan", b"If"].contains(&op_type);
        self.seen.sized_by_values |= SIZED_BY_VALUES.contains(&op_type);
        self.seen.mixes_rows |= op_type.starts_with(MIXES_ROWS);
        while let Some(field) = self.next(&mut rest)? {
            match field {
                (5, Value::Bytes(attribute)) => self.attribute(attribute, depth, label)?,
                (10, Value::Bytes(_)) => return Err(Refusal::Unsupported { what: "a plan for several devices" }),
                _ => {}
            }
        }
        Ok(())
    }

    fn attribute(&mut self, mut rest: &'a [u8], depth: usize, node: &'a [u8]) -> Result<(), Refusal> {
        self.attributes.add()?;
        // What may be there once is put together by the runtime if it comes in pieces.
        let (mut tensor, mut sparse) = (None, None);
        while let Some(field) = self.next(&mut rest)? {
            match field {
                (5, Value::Bytes(piece)) => self.read_tensor(piece, tensor.get_or_insert_default())?,
                (22, Value::Bytes(piece)) => self.read_sparse(piece, sparse.get_or_insert_default())?,
                (6 | 11, Value::Bytes(graph)) => {
                    self.seen.control_flow = true;
                    self.graph(graph, depth + 1)?;
                }
                (10, Value::Bytes(tensor)) => self.tensor(tensor, node)?,
                (23, Value::Bytes(sparse)) => self.sparse_tensor(sparse, node)?,
                (14 | 15, Value::Bytes(kind)) => self.kind(kind, 1)?,
                _ => {}
            }
        }
        tensor.map_or(Ok(()), |tensor| self.check_tensor(&tensor, node))?;
        sparse.map_or(Ok(()), |sparse| self.check_sparse(&sparse, node))
    }

    fn tensor(&mut self, tensor: &'a [u8], node: &'a [u8]) -> Result<(), Refusal> {
        let mut read = Dense::default();
        self.read_tensor(tensor, &mut read)?;
        self.check_tensor(&read, node)
    }

    fn read_tensor(&mut self, mut rest: &'a [u8], tensor: &mut Dense<'a>) -> Result<(), Refusal> {
        while let Some(field) = self.next(&mut rest)? {
            match field {
                (1, sizes) => tensor.shape.read(sizes)?,
                (2, Value::Number(data_type)) => tensor.data_type = data_type & u64::from(u32::MAX),
                (8, Value::Bytes(name)) => tensor.name = name,
                (9, Value::Bytes(raw)) => tensor.raw_bytes = Some(raw.len() as u64),
                (13, Value::Bytes(entry)) => tensor.read_external(entry)?,
                // Protobuf passes over a number that the list of locations lacks, and keeps the one before.
                (14, Value::Number(1..)) => tensor.is_external = true,
                _ => {}
            }
        }
        Ok(())
    }

    fn check_tensor(&mut self, tensor: &Dense<'a>, node: &[u8]) -> Result<(), Refusal> {
        let label = || label(tensor.name, node);
        if tensor.is_external {
            return Err(Refusal::ExternalData { tensor: label(), location: shown(tensor.location) });
        }
        let elements = tensor.shape.elements().map_err(|wrong| Refusal::Shape { tensor: label(), wrong })?;
        let (width, there) = match tensor.raw_bytes {
            Some(bytes) => (bits(tensor.data_type), bytes),
            None => (bits_min(tensor.data_type), self.bytes_left),
        };
        let claimed = (u128::from(elements) * u128::from(width)).div_ceil(8);
        match u64::try_from(claimed) {
            Ok(claimed) if claimed <= there => self.bytes_left = self.bytes_left.saturating_sub(claimed),
            _ => return Err(Refusal::Claim { tensor: label(), claimed, there }),
        }
        Ok(())
    }

    fn sparse_tensor(&mut self, sparse: &'a [u8], node: &'a [u8]) -> Result<(), Refusal> {
        let mut read = Sparse::default();
        self.read_sparse(sparse, &mut read)?;
        self.check_sparse(&read, node)
    }

    fn read_sparse(&mut self, mut rest: &'a [u8], sparse: &mut Sparse<'a>) -> Result<(), Refusal> {
        while let Some(field) = self.next(&mut rest)? {
            match field {
                (1, Value::Bytes(piece)) => self.read_tensor(piece, sparse.values.get_or_insert_default())?,
                (2, Value::Bytes(piece)) => self.read_tensor(piece, sparse.indices.get_or_insert_default())?,
                (3, sizes) => sparse.shape.read(sizes)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn check_sparse(&mut self, sparse: &Sparse<'a>, node: &[u8]) -> Result<(), Refusal> {
        let values = sparse.values.unwrap_or_default();
        sparse.values.iter().chain(&sparse.indices).try_for_each(|tensor| self.check_tensor(tensor, node))?;
        let label = || label(values.name, node);
        let elements = sparse.shape.elements().map_err(|wrong| Refusal::Shape { tensor: label(), wrong })?;
        let dense = (u128::from(elements) * u128::from(bits(values.data_type))).div_ceil(8);
        let left = u64::try_from(dense).ok().and_then(|dense| self.sparse_bytes_left.checked_sub(dense));
        self.sparse_bytes_left = left.ok_or_else(|| Refusal::Sparse { tensor: label() })?;
        Ok(())
    }

    /// The type of an input, an output or a value: counted, no more.
    fn value(&mut self, value: &'a [u8]) -> Result<(), Refusal> {
        self.each(value, 2, |walk, kind| walk.kind(kind, 1))
    }

    /// The axes of an input, the first of which may vary.
    fn axes(&mut self, mut rest: &'a [u8]) -> Result<(), Refusal> {
        let mut is_first = true;
        while let Some(field) = self.next(&mut rest)? {
            if let (1, Value::Bytes(axis)) = field {
                let is_free = self.is_free(axis)?;
                self.seen.free_axes |= is_free && !is_first;
                is_first = false;
            }
        }
        Ok(())
    }

    /// Whether an axis has no number; some exporters write a negative one.
    fn is_free(&mut self, mut rest: &'a [u8]) -> Result<bool, Refusal> {
        let mut is_free = true;
        while let Some(field) = self.next(&mut rest)? {
            match field {
                (1, Value::Number(size)) => is_free = i64::try_from(size).is_err(),
                (2, _) => is_free = true,
                _ => {}
            }
        }
        Ok(is_free)
    }

    fn kind(&mut self, mut rest: &'a [u8], depth: usize) -> Result<(), Refusal> {
        if depth > GRAPH_DEPTH_MAX {
            return Err(Refusal::TooDeep { what: "types", max: GRAPH_DEPTH_MAX });
        }
        while let Some(field) = self.next(&mut rest)? {
            match field {
                (1 | 8, Value::Bytes(tensor)) => self.each(tensor, 2, |walk, shape| walk.each(shape, 1, |_, _| Ok(())))?,
                (4 | 9, Value::Bytes(sequence)) => self.each(sequence, 1, |walk, kind| walk.kind(kind, depth + 1))?,
                (5, Value::Bytes(map)) => self.each(map, 2, |walk, kind| walk.kind(kind, depth + 1))?,
                _ => {}
            }
        }
        Ok(())
    }

    fn each(
        &mut self,
        mut rest: &'a [u8],
        number: u64,
        step: impl Fn(&mut Self, &'a [u8]) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        while let Some((found, value)) = self.next(&mut rest)? {
            match value {
                Value::Bytes(message) if found == number => step(self, message)?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// A tensor, as far as it was read.
#[derive(Clone, Copy, Default)]
struct Dense<'a> {
    name: &'a [u8],
    shape: Shape,
    data_type: u64,
    raw_bytes: Option<u64>,
    is_external: bool,
    location: &'a [u8],
}

impl<'a> Dense<'a> {
    fn read_external(&mut self, entry: &'a [u8]) -> Result<(), Refusal> {
        self.is_external = true;
        let [key, value] = texts(entry, [1, 2])?;
        if key == b"location" {
            self.location = value;
        }
        Ok(())
    }
}

/// A sparse tensor, as far as it was read.
#[derive(Default)]
struct Sparse<'a> {
    values: Option<Dense<'a>>,
    indices: Option<Dense<'a>>,
    shape: Shape,
}

/// The sizes of a tensor's axes, multiplied as they come.
#[derive(Clone, Copy)]
struct Shape {
    rank: usize,
    is_negative: bool,
    /// None when they are more than an `i64` counts.
    elements: Option<i64>,
}

impl Default for Shape {
    fn default() -> Self {
        Self { rank: 0, is_negative: false, elements: Some(1) }
    }
}

impl Shape {
    /// Protobuf writes a list one by one, or packed, and reads both.
    fn read(&mut self, sizes: Value<'_>) -> Result<(), Refusal> {
        match sizes {
            Value::Number(size) => self.push(size.cast_signed()),
            Value::Bytes(mut packed) => {
                while !packed.is_empty() {
                    self.push(varint(&mut packed)?.cast_signed());
                }
            }
            Value::Other => {}
        }
        Ok(())
    }

    fn push(&mut self, size: i64) {
        self.rank += 1;
        self.is_negative |= size < 0;
        self.elements = self.elements.and_then(|elements| elements.checked_mul(size));
    }

    fn elements(&self) -> Result<u64, &'static str> {
        if self.rank > RANK_MAX {
            return Err("more than 64 axes");
        }
        if self.is_negative {
            return Err("an axis of a negative size");
        }
        self.elements.and_then(|elements| u64::try_from(elements).ok()).ok_or("more elements than can be counted")
    }
}

/// The width of an element in memory, by the number of its type.
fn bits(data_type: u64) -> u64 {
    match data_type {
        2 | 3 | 9 | 17..=20 | 24 => 8,
        4 | 5 | 10 | 16 => 16,
        1 | 6 | 12 => 32,
        7 | 11 | 13 | 14 => 64,
        15 => 128,
        // A C++ string.
        8 => 256,
        21..=23 => 4,
        // Of two bits, or of a type that the runtime will refuse.
        _ => 2,
    }
}

/// The width of an element in the file at least, where it is not raw: integers are as short as their value, a byte for a zero,
/// and halves are written as integers. Floats and what consists of them are not.
fn bits_min(data_type: u64) -> u64 {
    match data_type {
        1 | 11 | 14 | 15 => bits(data_type),
        _ => bits(data_type).min(8),
    }
}

#[cfg(test)]
mod tests {
    //! What hostile models are refused with is in `tests/hostile_models.rs`.

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
    const SMALL: &[u8] = include_bytes!("../tests/models/endless.onnx");

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
}
