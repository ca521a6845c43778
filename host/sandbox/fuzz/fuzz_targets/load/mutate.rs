//! Changes to a component that leave most of it valid: a section of it, an instruction of its code, or what `wasm-mutate` does to
//! a whole core module. Bytes alone would hardly ever pass the parser. Knows how sections are framed, not what they mean.

use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;

use libfuzzer_sys::fuzzer_mutate;
use wasm_mutate::WasmMutate;
use wasmparser::{BinaryReader, FunctionBody};

use crate::{seeds, stats};

static SEEDS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(seeds::all);

/// The magic number, the version, the layer.
const HEAD_BYTES: usize = 8;
/// Sections of a component that are binaries of their own, and of a module its code.
const CORE_MODULE: u8 = 1;
const COMPONENT: u8 = 4;
const CODE: u8 = 10;

/// Instructions that are changed.
const CALL: u8 = 0x10;
const CALL_INDIRECT: u8 = 0x11;
const VARIABLES: RangeInclusive<u8> = 0x20..=0x24;
const LOADS_AND_STORES: RangeInclusive<u8> = 0x28..=0x3e;
const I32_CONST: u8 = 0x41;
const I64_CONST: u8 = 0x42;
/// Comparisons and arithmetic of i32.
const TWO_NUMBERS_TO_ONE: [RangeInclusive<u8>; 2] = [0x46..=0x4f, 0x6a..=0x78];

/// Changes that are tried before any bytes are changed.
const TRIES: usize = 8;
/// How hard `wasm-mutate` tries.
const FUEL: u64 = 1000;
/// How much a section may grow by one change.
const GROWTH_BYTES: usize = 64;

const NUMBERS: [i64; 18] =
    [0, 1, -1, 2, 3, 16, 17, 64, 255, 256, 1000, 65_535, 65_536, 0x1000_0000, 0x7fff_ffff, -0x8000_0000, i64::MAX, i64::MIN];

/// One change, in place; the new size.
pub(crate) fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut dice = Dice(u64::from(seed) + 1);
    let changed = if size <= HEAD_BYTES || dice.below(64) == 0 {
        Some(dice.pick(&SEEDS).clone())
    } else if dice.below(32) == 0 {
        None
    } else {
        // Not every change applies, and of those that do a few at once lead somewhere.
        let tried = (0..TRIES).find_map(|_| binary(&data[..size], &mut dice));
        tried.map(|bytes| if dice.below(3) == 0 { binary(&bytes, &mut dice).unwrap_or(bytes) } else { bytes })
    };
    match changed {
        Some(changed) if changed.len() <= max_size => {
            data[..changed.len()].copy_from_slice(&changed);
            changed.len()
        }
        _ => fuzzer_mutate(data, size, max_size),
    }
}

/// A component or a core module.
fn binary(bytes: &[u8], dice: &mut Dice) -> Option<Vec<u8>> {
    let mut binary = Binary::read(bytes)?;
    let is_module = bytes[6] == 0;
    let nested: Vec<usize> = binary.places(|id| !is_module && matches!(id, CORE_MODULE | COMPONENT)).collect();
    match dice.below(16) {
        0 => binary.rearrange(dice),
        1 => binary.change_bytes(dice),
        2..=7 if is_module => return wasm_mutate(bytes, dice),
        _ if is_module => {
            let code = binary.places(|id| id == CODE).next()?;
            let section = &mut binary.sections[code].1;
            *section = change_code(section, dice)?;
        }
        _ => {
            // The greatest most often: it is the plugin, the others adapt it.
            let greatest = nested.iter().max_by_key(|place| binary.sections[**place].1.len())?;
            let place = if dice.below(4) > 0 { *greatest } else { *dice.pick(&nested) };
            let section = &mut binary.sections[place].1;
            *section = self::binary(section, dice)?;
        }
    }
    Some(binary.write())
}

/// A binary's frame.
struct Binary {
    head: [u8; HEAD_BYTES],
    sections: Vec<(u8, Vec<u8>)>,
}

impl Binary {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (head, mut rest) = bytes.split_first_chunk::<HEAD_BYTES>()?;
        let mut sections = Vec::new();
        while let Some((id, after)) = rest.split_first() {
            let (length, after) = read_number(after)?;
            let (section, after) = after.split_at_checked(length)?;
            sections.push((*id, section.to_vec()));
            rest = after;
        }
        (!sections.is_empty()).then_some(Self { head: *head, sections })
    }

    fn write(&self) -> Vec<u8> {
        let mut bytes = self.head.to_vec();
        for (id, section) in &self.sections {
            bytes.push(*id);
            write_number(&mut bytes, section.len());
            bytes.extend(section);
        }
        bytes
    }

    fn places(&self, wanted: impl Fn(u8) -> bool) -> impl Iterator<Item = usize> {
        self.sections.iter().enumerate().filter(move |(_, (id, _))| wanted(*id)).map(|(place, _)| place)
    }

    /// Takes a section out, doubles it, or puts it elsewhere.
    fn rearrange(&mut self, dice: &mut Dice) {
        let from = dice.below(self.sections.len());
        let to = dice.below(self.sections.len());
        let kind = dice.below(3);
        let section = if kind == 1 { self.sections[from].clone() } else { self.sections.remove(from) };
        if kind > 0 {
            self.sections.insert(to, section);
        }
    }

    fn change_bytes(&mut self, dice: &mut Dice) {
        let place = dice.below(self.sections.len());
        let section = &mut self.sections[place].1;
        let size = section.len();
        section.resize(size + GROWTH_BYTES, 0);
        let size = fuzzer_mutate(section, size, size + GROWTH_BYTES);
        section.truncate(size);
    }
}

/// It panics on some of the modules that are not valid.
fn wasm_mutate(module: &[u8], dice: &mut Dice) -> Option<Vec<u8>> {
    let seed = dice.next();
    let run = || WasmMutate::default().seed(seed).fuel(FUEL).run(module).ok()?.next()?.ok();
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_panic| {
        stats::count(|| "wasm-mutate panicked".into());
        None
    })
}

/// Another constant, offset, index or operation somewhere in a code section, which stays valid more often than not.
fn change_code(section: &[u8], dice: &mut Dice) -> Option<Vec<u8>> {
    let (count, mut rest) = read_number(section)?;
    let mut bodies = Vec::new();
    for _ in 0..count {
        let (length, after) = read_number(rest)?;
        let (body, after) = after.split_at_checked(length)?;
        bodies.push(body.to_vec());
        rest = after;
    }
    if bodies.is_empty() {
        return None;
    }
    let place = dice.below(bodies.len());
    bodies[place] = change_body(&bodies[place], dice)?;
    let mut changed = Vec::new();
    write_number(&mut changed, count);
    for body in bodies {
        write_number(&mut changed, body.len());
        changed.extend(body);
    }
    Some(changed)
}

fn change_body(body: &[u8], dice: &mut Dice) -> Option<Vec<u8>> {
    let mut operators = FunctionBody::new(BinaryReader::new(body, 0)).get_operators_reader().ok()?;
    let mut changes = Vec::new();
    while !operators.eof() {
        let (_, start) = operators.read_with_offset().ok()?;
        if is_changeable(body[start]) {
            changes.push((start, operators.original_position()));
        }
    }
    if changes.is_empty() {
        return None;
    }
    let (start, end) = *dice.pick(&changes);
    let mut changed = body[..start].to_vec();
    change_operator(&body[start..end], dice, &mut changed);
    changed.extend(&body[end..]);
    Some(changed)
}

fn is_changeable(opcode: u8) -> bool {
    matches!(opcode, CALL | CALL_INDIRECT | I32_CONST | I64_CONST)
        || VARIABLES.contains(&opcode)
        || LOADS_AND_STORES.contains(&opcode)
        || TWO_NUMBERS_TO_ONE.iter().any(|opcodes| opcodes.contains(&opcode))
}

/// Writes another operator of the same kind.
fn change_operator(operator: &[u8], dice: &mut Dice, out: &mut Vec<u8>) {
    let opcode = operator[0];
    let number = if dice.below(4) == 0 { dice.next().cast_signed() >> dice.below(64) } else { *dice.pick(&NUMBERS) };
    match opcode {
        I32_CONST => {
            out.push(opcode);
            #[expect(clippy::cast_possible_truncation, reason = "any number will do")]
            write_signed(out, i64::from(number as i32));
        }
        I64_CONST => {
            out.push(opcode);
            write_signed(out, number);
        }
        _ if LOADS_AND_STORES.contains(&opcode) => {
            // The alignment stays, the offset is another.
            out.extend(&operator[..2]);
            write_number(out, usize::try_from(number & 0xffff_ffff).unwrap_or_default());
        }
        CALL | CALL_INDIRECT => change_index(operator, dice, out),
        _ if VARIABLES.contains(&opcode) => change_index(operator, dice, out),
        _ => {
            let others: Vec<u8> = TWO_NUMBERS_TO_ONE.into_iter().flatten().collect();
            out.push(*dice.pick(&others));
        }
    }
}

fn change_index(operator: &[u8], dice: &mut Dice, out: &mut Vec<u8>) {
    out.push(operator[0]);
    write_number(out, dice.below(16));
    out.extend(operator.get(2..).unwrap_or_default());
}

fn read_number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut reader = BinaryReader::new(bytes, 0);
    let number = reader.read_var_u32().ok()?;
    Some((usize::try_from(number).ok()?, &bytes[reader.original_position()..]))
}

fn write_number(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn write_signed(out: &mut Vec<u8>, mut number: i64) {
    loop {
        let byte = (number & 0x7f) as u8;
        number >>= 7;
        let is_last = (number == 0 && byte & 0x40 == 0) || (number == -1 && byte & 0x40 != 0);
        out.push(if is_last { byte } else { byte | 0x80 });
        if is_last {
            return;
        }
    }
}

/// SplitMix64: every choice follows from the fuzzer's seed.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("below a usize")
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}
