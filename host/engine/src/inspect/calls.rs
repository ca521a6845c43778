//! What calls what in a model, and what becomes of it when each call of a function is replaced by the function's body.

use std::collections::{BTreeMap, BTreeSet};

use super::refusal::Refusal;
use super::wire::texts;
use super::{NODES_MAX, plain};

/// Graphs and functions within one another when each call of a function is replaced by its body. The runtime recurses: on a
/// thread with a stack of 2 MiB it crashes somewhere between 500 and 1000 functions.
const CALL_DEPTH_MAX: usize = 64;

/// An operator: domain, name, and which of several with this name.
pub(super) type Operator<'a> = [&'a [u8]; 3];

/// The functions that a model brings.
#[derive(Default)]
pub(super) struct Functions<'a> {
    pub(super) count: usize,
    pub(super) places: BTreeMap<Operator<'a>, usize>,
    pub(super) domains: BTreeSet<&'a [u8]>,
}

impl<'a> Functions<'a> {
    pub(super) fn add(&mut self, function: &'a [u8]) -> Result<(), Refusal> {
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
pub(super) struct Body {
    pub(super) nodes: u64,
    /// The places of the functions that it calls, and in how many graphs each call lies.
    pub(super) calls: Vec<(usize, usize)>,
}

/// Checks what becomes of a model whose calls are replaced by what they call: a function that calls one twice, which calls one
/// twice, makes a billion nodes in thirty lines.
pub(super) fn check(bodies: &[Body]) -> Result<(), Refusal> {
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
