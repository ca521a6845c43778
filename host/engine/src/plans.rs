//! For which models the runtime plans the memory of whole runs. It keeps a plan for every shape that it has seen, for ever, so only those
//! may have plans that have few shapes. Without, each node takes its memory from the session's arena by itself, where runs at once
//! wait for one another (`docs/PERFORMANCE.md`). Pure.

use std::collections::BTreeSet;

use sandmill_domain::{Axis, Provider, Signature};

use crate::inspect::Seen;
use crate::load::ModelOptions;
use crate::signature::axis_name;

/// The most shapes that there may be plans for.
const SHAPES_MAX: u64 = 64;
/// Of all plans together: each knows every node, some 40 bytes for one, and no arena counts them.
const NODES_MAX: u64 = 1_000_000;

/// What is thought before the signature is known: most models that vary in nothing but their rows have few shapes, and so have those
/// whose axes have rules.
pub(crate) fn guess(seen: &Seen, options: &ModelOptions) -> bool {
    (!seen.free_axes || !options.axes.is_empty()) && may_plan(seen, options)
}

/// Whether there are plans.
pub(crate) fn decide(signature: &Signature, seen: &Seen, options: &ModelOptions) -> bool {
    let shapes = shapes(signature, options);
    // The runtime tells shapes by the sizes of all inputs, mixed so that those of two that are alike cancel out.
    let vary = signature.inputs.iter().filter(|input| input.shape.iter().any(|axis| !matches!(axis, Axis::Fixed(_)))).count();
    let is_small = shapes <= SHAPES_MAX && shapes.saturating_mul(seen.nodes as u64) <= NODES_MAX;
    is_small && (vary <= 1 || shapes == 1) && may_plan(seen, options)
}

/// What a device runs has its memory elsewhere, and values may decide on shapes within the graph.
fn may_plan(seen: &Seen, options: &ModelOptions) -> bool {
    options.providers == [Provider::cpu()] && !seen.control_flow && !seen.sized_by_values
}

/// In how many shapes the model can see its inputs: axes of one name have one size.
fn shapes(signature: &Signature, options: &ModelOptions) -> u64 {
    let mut known = BTreeSet::new();
    let mut shapes = 1_u64;
    for input in &signature.inputs {
        for (index, axis) in input.shape.iter().enumerate() {
            let name = axis.symbol().map_or_else(|| axis_name(&input.name, index), str::to_owned);
            let sizes = match axis {
                Axis::Fixed(_) => 1,
                Axis::Sizes { sizes, .. } => sizes.len() as u64,
                Axis::Dynamic { max, .. } => match options.axes.get(&name).map(|rule| rule.buckets().len()) {
                    Some(buckets @ 1..) => buckets as u64,
                    Some(0) | None => u64::try_from(*max).unwrap_or(0),
                },
            };
            if known.insert(name) {
                shapes = shapes.saturating_mul(sizes.max(1));
            }
        }
    }
    shapes
}

#[cfg(test)]
mod tests {
    use sandmill_domain::{AxisRule, Dtype, Pad, PadValue, TensorSpec};

    use super::*;

    fn signature(inputs: &[&[Axis]]) -> Signature {
        let spec = |(number, shape): (usize, &&[Axis])| TensorSpec {
            name: format!("x{number}"),
            dtype: Dtype::Fp32,
            shape: shape.to_vec(),
        };
        Signature { inputs: inputs.iter().enumerate().map(spec).collect(), outputs: Vec::new() }
    }

    fn rows(max: i64) -> Axis {
        Axis::Dynamic { symbol: Some("batch".into()), max }
    }

    #[test]
    fn shapes_are_counted_as_the_model_sees_them() {
        let options = ModelOptions::default();
        let fixed = Axis::Fixed(64);
        let sizes = Axis::Sizes { symbol: None, sizes: vec![224, 384] };
        let (unnamed, other) = (Axis::Dynamic { symbol: None, max: 3 }, Axis::Dynamic { symbol: None, max: 3 });
        let cases: [(&[&[Axis]], u64); 6] = [
            (&[], 1),
            (&[&[fixed.clone(), fixed.clone()]], 1),
            (&[&[rows(32), fixed.clone()], &[rows(32)]], 32),
            (&[&[rows(32), sizes.clone(), sizes]], 128),
            (&[&[unnamed], &[other]], 9),
            (&[&[rows(i64::MAX), Axis::Dynamic { symbol: None, max: i64::MAX }]], u64::MAX),
        ];
        for (inputs, expected) in cases {
            assert_eq!(shapes(&signature(inputs), &options), expected, "{inputs:?}");
        }
        let padded = AxisRule::new(None, vec![16, 64, 256], Some(Pad::All(PadValue::Whole(0)))).unwrap();
        let axes = [("sequence".to_owned(), padded)].into();
        let padded = signature(&[&[rows(8), Axis::Dynamic { symbol: Some("sequence".into()), max: 256 }]]);
        assert_eq!(shapes(&padded, &ModelOptions { axes, ..options }), 24);
    }

    #[test]
    fn only_few_shapes_on_the_processor_alone_are_planned() {
        let options = ModelOptions::default();
        let (seen, few, many) = (Seen::default(), signature(&[&[rows(64)]]), signature(&[&[rows(65)]]));
        assert!(guess(&seen, &options) && decide(&few, &seen, &options) && !decide(&many, &seen, &options));
        let free = Seen { free_axes: true, ..seen };
        assert!(!guess(&free, &options) && decide(&few, &free, &options), "its rules may leave few");
        let ruled = ModelOptions { axes: [("x0[2]".to_owned(), AxisRule::from(48))].into(), ..options.clone() };
        assert!(guess(&free, &ruled));
        let (large, larger) = (Seen { nodes: 15_625, ..seen }, Seen { nodes: 15_626, ..seen });
        assert!(decide(&few, &large, &options) && !decide(&few, &larger, &options));
        let (alike, fixed) = (signature(&[&[rows(8)], &[rows(8)]]), signature(&[&[rows(8)], &[Axis::Fixed(8)]]));
        assert!(!decide(&alike, &seen, &options) && decide(&fixed, &seen, &options));
        for seen in [Seen { control_flow: true, ..seen }, Seen { sized_by_values: true, ..seen }] {
            assert!(!guess(&seen, &options) && !decide(&few, &seen, &options));
        }
        let device = ModelOptions { providers: vec![Provider::named("cuda"), Provider::cpu()], ..options };
        assert!(!guess(&seen, &device) && !decide(&few, &seen, &device));
    }
}
