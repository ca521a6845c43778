//! Looks through the bytes of an ONNX file before the runtime gets them, and refuses what is hostile or not supported. Knows
//! nothing of the runtime but what it was seen to do; whether operators, types and shapes fit together is the runtime's matter.
//!
//! The file is read where it lies, field by field: messages decoded into structs take 60 times the bytes of the smallest ones,
//! and the file may have 2 GiB. Two readers of one format must not differ, or what is refused here can be hidden from it: what
//! protobuf's own parser takes is read as it reads it, and what that never writes is refused.
//!
//! <https://github.com/onnx/onnx/blob/v1.23.2/onnx/onnx.proto>, <https://protobuf.dev/programming-guides/encoding/>

mod calls;
mod refusal;
mod tensor;
#[cfg(test)]
mod tests;
mod wire;

use std::ops::RangeInclusive;

use calls::{Body, Functions};
pub use refusal::Refusal;
use refusal::{label, shown};
use tensor::{Dense, Sparse, bits, bits_min};
use wire::{Value, next_field, texts};

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
    calls::check(&walk.bodies)?;
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
