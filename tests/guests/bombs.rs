//! Components that are small to send and dear to read or to compile, written byte by byte: no tool would make them. Knows the
//! binary format (<https://webassembly.github.io/spec/core/binary>, and `Binary.md` of the component model), not the host.

/// A component's sections: a core module, a component within it, types, imports, exports.
const CORE_MODULE: u8 = 1;
const COMPONENT: u8 = 4;
const TYPES: u8 = 7;
const START: u8 = 9;
const IMPORTS: u8 = 10;
const EXPORTS: u8 = 11;
/// A core module's sections.
const CORE_TYPES: u8 = 1;
const CORE_FUNCTIONS: u8 = 3;
const CORE_CODE: u8 = 10;

const COMPONENT_HEAD: [u8; 8] = *b"\0asm\x0d\0\x01\0";
const MODULE_HEAD: [u8; 8] = *b"\0asm\x01\0\0\0";

const BLOCK: [u8; 2] = [0x02, 0x40];
const END: u8 = 0x0b;

/// The component with a module more, which is compiled though nothing uses it.
pub(crate) fn with_module(mut component: Vec<u8>, module: &[u8]) -> Vec<u8> {
    component.extend(section(CORE_MODULE, module));
    component
}

/// A module of one type, `[] -> []`, and functions of it with these bodies.
fn module(bodies: impl ExactSizeIterator<Item = Vec<u8>>) -> Vec<u8> {
    let count = bodies.len();
    let functions = items(count, std::iter::repeat_n(vec![0], count));
    let code = items(count, bodies.map(|body| [number(body.len()), body].concat()));
    let sections = [section(CORE_TYPES, &[1, 0x60, 0, 0]), section(CORE_FUNCTIONS, &functions), section(CORE_CODE, &code)];
    [MODULE_HEAD.to_vec(), sections.concat()].concat()
}

/// One function of this many bytes: `nop`, again and again.
pub(crate) fn giant_function(bytes: usize) -> Vec<u8> {
    let mut body = vec![0];
    body.resize(bytes - 1, 0x01);
    body.push(END);
    module([body].into_iter())
}

/// So many functions that do nothing.
pub(crate) fn small_functions(count: usize) -> Vec<u8> {
    module((0..count).map(|_| vec![0, END]))
}

/// Functions of a few bytes with as many locals as there may be: some work for each local of each function.
pub(crate) fn many_locals(functions: usize) -> Vec<u8> {
    let body = [vec![1], number(50_000), vec![0x7b, END]].concat();
    module((0..functions).map(|_| body.clone()))
}

/// One function of blocks within blocks.
pub(crate) fn nested_blocks(depth: usize) -> Vec<u8> {
    module([[vec![0], BLOCK.repeat(depth), vec![END; depth + 1]].concat()].into_iter())
}

/// One function of blocks within blocks, and in the innermost jumps through tables to each of them.
pub(crate) fn jump_tables(depth: usize, tables: usize) -> Vec<u8> {
    let targets = items(depth, (0..depth).map(number));
    let jump = [vec![0x41, 0, 0x0e], targets, vec![0]].concat();
    let jumps = (0..tables).flat_map(|_| [&BLOCK[..], &jump, &[END]].concat()).collect();
    module([[vec![0], BLOCK.repeat(depth), jumps, vec![END; depth + 1]].concat()].into_iter())
}

/// The component with components within components in it.
pub(crate) fn with_nested_components(mut component: Vec<u8>, depth: usize) -> Vec<u8> {
    // From the innermost outwards, each length known; written backwards, so that nothing is copied twice.
    let mut backwards: Vec<u8> = Vec::new();
    for _ in 0..depth {
        backwards.extend(COMPONENT_HEAD.iter().rev());
        let length = number(backwards.len());
        backwards.extend(length.iter().rev());
        backwards.push(COMPONENT);
    }
    component.extend(backwards.iter().rev());
    component
}

/// The component with so many types more: each a tuple of the one before, twice.
pub(crate) fn with_doubling_types(mut component: Vec<u8>, count: usize) -> Vec<u8> {
    let primitive = section(TYPES, &[1, 0x7d]);
    let outer = [COMPONENT_HEAD.to_vec(), primitive];
    let tuples = (0..count).map(|at| section(TYPES, &[vec![1, 0x6f, 2], number(at), number(at)].concat()));
    let inner = outer.into_iter().chain(tuples).collect::<Vec<_>>().concat();
    component.extend(section(COMPONENT, &inner));
    component
}

/// The component with so many plain types more.
pub(crate) fn with_types(mut component: Vec<u8>, count: usize) -> Vec<u8> {
    component.extend(section(TYPES, &items(count, std::iter::repeat_n(vec![0x7d], count))));
    component
}

/// A component that imports so many functions.
pub(crate) fn imports(count: usize) -> Vec<u8> {
    let function = section(TYPES, &[1, 0x40, 0, 1, 0]);
    let import = |at: usize| [name(&format!("no-such-import-{at}")), vec![0x01, 0x00]].concat();
    let imports = section(IMPORTS, &items(count, (0..count).map(import)));
    [COMPONENT_HEAD.to_vec(), function, imports].concat()
}

/// A component that exports one type so many times.
pub(crate) fn exports(count: usize) -> Vec<u8> {
    let ty = section(TYPES, &[1, 0x7d]);
    let export = |at: usize| [name(&format!("no-such-export-{at}")), vec![0x03, 0x00, 0x00]].concat();
    let exports = section(EXPORTS, &items(count, (0..count).map(export)));
    [COMPONENT_HEAD.to_vec(), ty, exports].concat()
}

/// The component with a start function: the first of its functions, called without arguments.
pub(crate) fn with_start(mut component: Vec<u8>) -> Vec<u8> {
    component.extend(section(START, &[0, 0, 0]));
    component
}

/// The beginning of a component, and then chance: a generator of Knuth's, so that every run sees the same bytes.
pub(crate) fn noise(head: &[u8], bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    let mut component = head.to_vec();
    component.resize_with(head.len() + bytes, &mut next);
    component
}

/// What every component begins with.
pub(crate) fn component_head() -> Vec<u8> {
    COMPONENT_HEAD.to_vec()
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [vec![id], number(content.len()), content.to_vec()].concat()
}

fn items(count: usize, items: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut bytes = number(count);
    items.for_each(|item| bytes.extend(item));
    bytes
}

fn name(name: &str) -> Vec<u8> {
    [vec![0], number(name.len()), name.as_bytes().to_vec()].concat()
}

/// LEB128.
fn number(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = number.to_le_bytes()[0] & 0x7f;
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}
