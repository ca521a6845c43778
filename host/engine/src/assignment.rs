//! The runtime's C interface: which provider has been given which nodes of a loaded model. Knows nothing of what was asked for.
#![allow(unsafe_code, reason = "ort does not show what the C interface does")]

use std::ffi::{CStr, c_char};
use std::{ptr, slice};

use ort::session::Session;
use ort::{AsPointer, ortsys};
use ort_sys::{OrtEpAssignedNode, OrtEpAssignedSubgraph};

/// What a session must be configured with to remember it.
pub(crate) const RECORDED: (&str, &str) = ("session.record_ep_graph_assignment_info", "1");

/// Nodes that one provider was given together.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// The runtime's name for the provider.
    pub(crate) provider: String,
    /// The nodes' names; empty for one that the file gives none.
    pub(crate) nodes: Vec<String>,
}

/// All shares of a session that was configured with [`RECORDED`].
pub(crate) fn read(session: &Session) -> ort::Result<Vec<Share>> {
    let (mut shares, mut count): (*const *const OrtEpAssignedSubgraph, usize) = (ptr::null(), 0);
    // SAFETY: the session is valid; the list is its own and lives as long.
    ortsys![unsafe Session_GetEpGraphAssignmentInfo(session.ptr(), &mut shares, &mut count)?];
    // SAFETY: the runtime gives `count` pointers, which outlive this function, as the session does.
    unsafe { list(shares, count) }.iter().map(|share| read_share(*share)).collect()
}

/// One share; the pointer is from the session's list.
fn read_share(share: *const OrtEpAssignedSubgraph) -> ort::Result<Share> {
    let mut name: *const c_char = ptr::null();
    // SAFETY: the share is the session's, which is there.
    ortsys![unsafe EpAssignedSubgraph_GetEpName(share, &mut name)?];
    let (mut nodes, mut count): (*const *const OrtEpAssignedNode, usize) = (ptr::null(), 0);
    // SAFETY: as above.
    ortsys![unsafe EpAssignedSubgraph_GetNodes(share, &mut nodes, &mut count)?];
    // SAFETY: the runtime gives `count` pointers, which live as long as the session.
    let nodes = unsafe { list(nodes, count) }.iter().map(|node| read_node(*node)).collect::<Result<_, _>>()?;
    Ok(Share { provider: text(name), nodes })
}

/// The name of a node; the pointer is from a share of the session's.
fn read_node(node: *const OrtEpAssignedNode) -> ort::Result<String> {
    let mut name: *const c_char = ptr::null();
    // SAFETY: the node is the session's, which is there.
    ortsys![unsafe EpAssignedNode_GetName(node, &mut name)?];
    Ok(text(name))
}

/// A list that the runtime gives as a pointer and a length.
///
/// # Safety
/// It has that length, or is null, and lives for as long as what is made of it.
unsafe fn list<'a, T>(start: *const T, count: usize) -> &'a [T] {
    if start.is_null() || count == 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { slice::from_raw_parts(start, count) }
}

/// A text of the session's, copied.
fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: not null, and then a text of the session's that ends with a zero.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support;

    #[test]
    fn nodes_are_found_with_the_provider_that_has_them() {
        let load = |recorded: bool| {
            let builder = Session::builder(&test_support::environment()).unwrap();
            let (key, value) = if recorded { RECORDED } else { ("session.load_model_format", "ONNX") };
            let model = include_bytes!("../tests/models/scalar.onnx");
            builder.with_config_entry(key, value).unwrap().commit_from_memory(model).unwrap()
        };
        let shares = read(&load(true)).unwrap();
        assert_eq!(shares.len(), 1, "{shares:?}");
        assert_eq!((shares[0].provider.as_str(), shares[0].nodes.len()), ("CPUExecutionProvider", 1));
        assert!(read(&load(false)).is_err(), "what was not recorded is not made up");
    }
}
