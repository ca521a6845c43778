//! Looks at a component before anything is compiled: how many functions, tables and memories, how large, and what it imports and
//! exports. Trusts nothing that it reads, and runs nothing.

use wasmparser::{Encoding, Parser, Payload};

use crate::job::Refusal;
use crate::machine::{MEMORIES_MAX, TABLES_MAX};

/// Components and modules within one another: each level is read, and held, once more. Tools nest two, whoever composes
/// components a level more for each step.
const NESTING_MAX: usize = 16;

/// What was seen.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen<'a> {
    pub(crate) functions: usize,
    tables: u64,
    memories: u64,
    /// The component's own, not of those within it.
    pub(crate) imports: Vec<&'a str>,
    /// Likewise.
    pub(crate) exports: Vec<&'a str>,
}

/// Looks through the component and all that is nested in it.
///
/// # Errors
/// What cannot be read, or the first bound that is passed.
pub(crate) fn scan(bytes: &[u8], functions_max: usize, function_bytes_max: usize) -> Result<Seen<'_>, Refusal> {
    let invalid = |error: wasmparser::BinaryReaderError| Refusal::invalid(&error.to_string());
    let mut seen = Seen::default();
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(invalid)? {
            Payload::Version { encoding: Encoding::Component | Encoding::Module, .. } => {
                depth += 1;
                if depth > NESTING_MAX {
                    return Err(Refusal::Nesting { max: NESTING_MAX });
                }
            }
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
            Payload::ComponentImportSection(imports) if depth == 1 => {
                for import in imports {
                    seen.imports.push(import.map_err(invalid)?.name.name);
                }
            }
            Payload::ComponentExportSection(exports) if depth == 1 => {
                for export in exports {
                    seen.exports.push(export.map_err(invalid)?.name.name);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A component of one module with `functions` functions, the first one of `padding` instructions more.
    fn component(functions: usize, padding: usize) -> Vec<u8> {
        let first = format!("(func {})", "nop ".repeat(padding));
        let rest = "(func)".repeat(functions - 1);
        wat::parse_str(format!("(component (core module {first}{rest}))")).unwrap()
    }

    #[test]
    fn functions_have_bounds_in_number_and_size() {
        let three = component(3, 0);
        assert_eq!(scan(&three, 3, 100).unwrap().functions, 3);
        assert_eq!(scan(&three, 2, 100), Err(Refusal::Functions { max: 2 }));
        // No locals, the instructions, the end.
        let long = component(1, 98);
        assert!(scan(&long, 1, 100).is_ok());
        assert_eq!(scan(&long, 1, 99), Err(Refusal::Function { bytes: 100, max: 99 }));
    }

    #[test]
    fn tables_and_memories_of_all_modules_count_together() {
        let many = |what: &str, count: usize| {
            let modules = format!("(core module {what})").repeat(count);
            scan(&wat::parse_str(format!("(component {modules})")).unwrap(), 1, 1).map(drop)
        };
        assert_eq!(many("(table 1 funcref)", TABLES_MAX as usize), Ok(()));
        assert_eq!(many("(table 1 funcref)", 9), Err(Refusal::Tables { count: 9, max: 8 }));
        assert!(many("(memory 1)", MEMORIES_MAX as usize).is_ok());
        assert_eq!(many("(memory 1)", 3), Err(Refusal::Memories { count: 3, max: 2 }));
    }
}
