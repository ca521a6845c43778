//! Looks at a component before anything is compiled: how many functions, tables and memories, how large, and whether it has an `init`. Trusts nothing
//! that it reads, and runs nothing.

use wasmparser::{Encoding, Parser, Payload};

use crate::contract;
use crate::job::Refusal;
use crate::machine::{MEMORIES_MAX, TABLES_MAX};

/// What was seen.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) functions: usize,
    tables: u64,
    memories: u64,
    pub(crate) has_init: bool,
}

/// Looks through the component and all that is nested in it.
///
/// # Errors
/// What cannot be read, or the first bound that is passed.
pub(crate) fn scan(bytes: &[u8], functions_max: usize, function_bytes_max: usize) -> Result<Seen, Refusal> {
    let invalid = |error: wasmparser::BinaryReaderError| Refusal::Invalid(error.to_string());
    let mut seen = Seen::default();
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(invalid)? {
            Payload::Version { encoding: Encoding::Component | Encoding::Module, .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::CodeSectionEntry(body) => {
                seen.functions += 1;
                let bytes = body.range().len();
                if bytes > function_bytes_max {
                    return Err(Refusal::Function { bytes, max: function_bytes_max });
                }
                if seen.functions > functions_max {
                    return Err(Refusal::Functions { max: functions_max });
                }
            }
            Payload::TableSection(tables) => seen.tables += u64::from(tables.count()),
            Payload::MemorySection(memories) => seen.memories += u64::from(memories.count()),
            Payload::ComponentExportSection(exports) if depth == 1 => {
                for export in exports {
                    seen.has_init |= contract::is_init(export.map_err(invalid)?.name.name);
                }
            }
            _ => {}
        }
    }
    if seen.tables > u64::from(TABLES_MAX) {
        return Err(Refusal::Tables { count: seen.tables, max: TABLES_MAX });
    }
    if seen.memories > u64::from(MEMORIES_MAX) {
        return Err(Refusal::Memories { count: seen.memories, max: MEMORIES_MAX });
    }
    Ok(seen)
}
