//! What models answer: every type and shape, from inputs wherever they lie, alone and side by side.

use std::thread;

use bytes::Bytes;
use sandmill_domain::ports::Model;
use sandmill_domain::{Axis, Code, Dtype, Tensor};
use sandmill_engine::{EngineOptions, ModelOptions, ModelSource};

use crate::harness::{
    DIGIT, as_floats, digits_bytes, floats, infer, integers, load, options, outputs, soon, start, strings, tensor, try_load,
};

/// Two machines' vector units differ in the last digits.
const TOLERANCE: f64 = 1e-6;

fn assert_is_the_digit(outputs: &[Tensor]) {
    let [label, probabilities] = outputs else { panic!("{outputs:?}") };
    assert_eq!(*label, integers("label", &[1], &[2]));
    assert_eq!((probabilities.name.as_str(), probabilities.shape.as_slice()), ("probabilities", &[1, 10][..]));
    let p = as_floats(probabilities);
    assert!((f64::from(p[2]) - 0.999_998_69).abs() < TOLERANCE, "{p:?}");
}

#[tokio::test]
async fn digits_are_read() {
    let model = load("digits");
    assert_is_the_digit(&outputs(&model, vec![floats("X", &[1, 64], &DIGIT)]).await);
    let times = model.load_times();
    assert!(times.load > times.run && times.warm_up > times.run, "{times:?}");
}

#[tokio::test]
async fn inputs_that_lie_askew_are_copied_into_lent_memory() {
    let model = load("digits");
    let straight = floats("X", &[1, 64], &DIGIT);
    for offset in 1..4 {
        let mut bytes = vec![0; offset];
        bytes.extend_from_slice(&straight.data);
        let data = Bytes::from(bytes).slice(offset..);
        assert_ne!(data.as_ptr().addr() % 4, 0, "the allocator aligns to 4 at least");
        assert_is_the_digit(&outputs(&model, vec![Tensor { data, ..straight.clone() }]).await);
    }
    let mut lent = model.lender().lend(256).unwrap();
    lent.push(&straight.data).unwrap();
    assert_is_the_digit(&outputs(&model, vec![Tensor { data: lent.freeze(), ..straight }]).await);
}

#[tokio::test]
async fn copies_of_inputs_count_against_the_lent_bytes() {
    let engine = start(&EngineOptions { buffer_bytes_max: 512, buffer_idle_bytes_max: 0, ..EngineOptions::default() });
    let model = engine.load(ModelSource { name: "digits".into(), bytes: digits_bytes().into() }, &options()).unwrap();
    let straight = floats("X", &[1, 64], &DIGIT);
    let askew = Bytes::from([&[0][..], &straight.data].concat()).slice(1..);
    let askew = vec![Tensor { data: askew, ..straight }];
    let lent = [model.lender().lend(1).unwrap(), model.lender().lend(1).unwrap()];
    assert_eq!(infer(&model, askew.clone()).await.unwrap_err().code, Code::Overloaded);
    drop(lent);
    assert_is_the_digit(&outputs(&model, askew).await);
}

/// Pictures that differ in one row each.
fn picture(seed: usize) -> Vec<f32> {
    let mut picture = DIGIT.to_vec();
    picture.rotate_left(seed % 64);
    picture
}

#[tokio::test]
async fn answers_stay_right_when_threads_share_a_session() {
    const PICTURES: usize = 64;
    const RUNS: usize = 400;
    let alone = load("digits");
    let mut expected = Vec::new();
    for seed in 0..PICTURES {
        expected.push(outputs(&alone, vec![floats("X", &[1, 64], &picture(seed))]).await);
    }
    let shared = try_load("digits", &ModelOptions { threads: 4, ..ModelOptions::default() }).unwrap();
    thread::scope(|scope| {
        for offset in 0..4 {
            let (shared, expected) = (&shared, &expected);
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                for run in 0..RUNS {
                    let seed = (run * 7 + offset * 13) % PICTURES;
                    let found = runtime.block_on(outputs(shared, vec![floats("X", &[1, 64], &picture(seed))]));
                    assert_eq!(found, expected[seed], "picture {seed} in run {run}");
                }
            });
        }
    });
}

#[tokio::test]
async fn rows_of_a_batch_are_answered_like_single_ones() {
    let model = load("digits");
    let batch: Vec<f32> = (0..32).flat_map(picture).collect();
    let together = as_floats(&outputs(&model, vec![floats("X", &[32, 64], &batch)]).await[1]);
    for (seed, row) in together.chunks(10).enumerate() {
        let alone = as_floats(&outputs(&model, vec![floats("X", &[1, 64], &picture(seed))]).await[1]);
        assert!(row.iter().zip(&alone).all(|(a, b)| (a - b).abs() < 1e-5), "{seed}: {row:?} {alone:?}");
    }
}

#[tokio::test]
async fn every_type_comes_through() {
    let model = load("types");
    let input = |dtype: Dtype| {
        let name = format!("in_{}", onnx_name(dtype));
        match dtype {
            Dtype::Bytes => strings(&name, &[b"one", b"", b"\0\xff three"]),
            Dtype::Bool => tensor(&name, dtype, &[3], vec![0, 1, 1]),
            _ => tensor(&name, dtype, &[3], (1..=u8::try_from(dtype.size().unwrap()).unwrap() * 3).collect::<Vec<_>>()),
        }
    };
    let inputs: Vec<_> = Dtype::ALL.into_iter().map(input).collect();
    let found = outputs(&model, inputs.iter().rev().cloned().collect()).await;
    for (found, given) in found.iter().zip(&model.info().signature.outputs) {
        assert_eq!((&found.name, found.dtype), (&given.name, given.dtype));
        let expected = inputs.iter().find(|input| input.dtype == found.dtype).unwrap();
        assert_eq!((&found.shape, &found.data), (&expected.shape, &expected.data), "{}", found.name);
    }
    assert_eq!(found.len(), Dtype::ALL.len());
}

fn onnx_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::Fp16 => "FLOAT16",
        Dtype::Bf16 => "BFLOAT16",
        Dtype::Fp32 => "FLOAT",
        Dtype::Fp64 => "DOUBLE",
        Dtype::Bytes => "STRING",
        dtype => dtype.name(),
    }
}

#[tokio::test]
async fn strings_are_joined() {
    let model = load("strings");
    let joined = outputs(&model, vec![strings("left", &[b"a", b"", b"x\0y"]), strings("right", &[b"b", b"", b"\xff"])]).await;
    assert_eq!(joined, [strings("y", &[b"ab", b"", b"x\0y\xff"])]);
    let none = outputs(&model, vec![strings("left", &[]), strings("right", &[])]).await;
    assert_eq!(none, [strings("y", &[])]);
}

#[tokio::test]
async fn a_scalar_has_no_axes() {
    let model = load("scalar");
    assert_eq!(model.info().signature.inputs[0].shape, []);
    assert_eq!(outputs(&model, vec![integers("x", &[], &[21])]).await, [integers("y", &[], &[42])]);
}

#[tokio::test]
async fn a_model_without_inputs_answers() {
    let model = load("no_inputs");
    assert_eq!(outputs(&model, vec![]).await[0].shape, [2]);
}

#[tokio::test]
async fn the_signature_is_read_with_bounds_for_what_varies() {
    let axes = [("seq".to_owned(), 7), ("state[2]".to_owned(), 3)].into();
    let model = try_load("symbols", &ModelOptions { axes, ..options() }).unwrap();
    let info = model.info();
    assert_eq!(info.name, "symbols");
    assert_eq!(info.metadata, [("author".into(), "nobody".into()), ("character".into(), "a\nb".into())]);
    let named = |symbol: &str, max| Axis::Dynamic { symbol: Some(symbol.to_owned()), max };
    let shapes: Vec<_> = info.signature.inputs.iter().map(|spec| (spec.name.as_str(), spec.dtype, spec.shape.clone())).collect();
    assert_eq!(
        shapes,
        [
            ("ids", Dtype::Int64, vec![named("batch", 32), named("seq", 7)]),
            ("mask", Dtype::Int64, vec![named("batch", 32), named("seq", 7)]),
            ("state", Dtype::Fp32, vec![Axis::Fixed(2), named("batch", 32), Axis::Dynamic { symbol: None, max: 3 }]),
        ]
    );
    let defaults = load("symbols");
    assert_eq!(defaults.info().signature.inputs[0].shape, [named("batch", 32), named("seq", 1024)]);
    assert_eq!(defaults.info().signature.inputs[2].shape[2], Axis::Dynamic { symbol: None, max: 1024 });
}

#[tokio::test]
async fn axes_of_unknown_name_need_not_be_equal() {
    let model = load("unnamed");
    assert_eq!(outputs(&model, vec![floats("x", &[1, 2], &[1.0, 2.0])]).await, [floats("y", &[1, 2], &[-1.0, -2.0])]);
}

#[tokio::test]
async fn a_model_that_cannot_take_the_smallest_shapes_is_warmed_with_larger_ones() {
    let model = load("window");
    let found = outputs(&model, vec![floats("x", &[1, 1, 4], &[1.0, 2.0, 3.0, 4.0])]).await;
    assert_eq!(found, [floats("y", &[1, 1, 2], &[6.0, 9.0])]);
    assert!(infer(&model, vec![floats("x", &[1, 1, 1], &[1.0])]).await.is_err());
}

#[tokio::test]
async fn an_axis_may_be_empty() {
    let model = load("symbols");
    let inputs = vec![integers("ids", &[0, 5], &[]), integers("mask", &[0, 5], &[]), floats("state", &[2, 0, 3], &[])];
    let found = outputs(&model, inputs).await;
    assert_eq!(found, [integers("sum", &[0, 5], &[]), floats("next", &[2, 0, 3], &[])]);
}

#[tokio::test]
async fn an_outputs_shape_is_what_it_is_and_not_what_is_declared() {
    let model = load("wrong_shape");
    assert_eq!(model.info().signature.outputs[0].shape, [Axis::Fixed(1), Axis::Fixed(5)]);
    let found = outputs(&model, vec![floats("x", &[4], &[0.0, 1.0, 0.0, 2.0])]).await;
    assert_eq!(found, [integers("y", &[1, 2], &[1, 3])]);
}

#[tokio::test]
async fn outputs_outlive_their_inputs_and_their_model() {
    let model = load("passthrough");
    let values: Vec<f32> = (0_u8..32).map(f32::from).collect();
    let filled = |value: f32| {
        let mut lent = model.lender().lend(128).unwrap();
        values.iter().for_each(|x| lent.push(&(x + value).to_le_bytes()).unwrap());
        vec![tensor("x", Dtype::Fp32, &[32], lent.freeze())]
    };
    let found = outputs(&model, filled(0.0)).await;
    // Takes the same lent memory and the same arena again.
    let other = outputs(&model, filled(1000.0)).await;
    drop((other, filled(2000.0)));
    drop(model);
    assert_eq!(as_floats(&found[0]), values);
    assert_eq!(as_floats(&found[1]), [1.0, 2.0, 3.0]);
    assert_eq!(as_floats(&found[2]), values.iter().map(|x| -x).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_default_for_an_input_is_no_input() {
    let model = load("gather");
    let names: Vec<_> = model.info().signature.inputs.iter().map(|spec| spec.name.as_str()).collect();
    assert_eq!(names, ["index"]);
    assert_eq!(outputs(&model, vec![integers("index", &[2], &[3, 0])]).await, [floats("y", &[2], &[4.0, 1.0])]);
}

#[tokio::test]
async fn outputs_are_bounded() {
    let fits = |output_bytes_max| ModelOptions { output_bytes_max, ..options() };
    let three = || vec![strings("left", &[b"a", b"b", b"c"]), strings("right", &[b"", b"", b"d"])];
    let room = try_load("strings", &fits(16)).unwrap();
    assert_eq!(outputs(&room, three()).await, [strings("y", &[b"a", b"b", b"cd"])]);
    let short = try_load("strings", &fits(15)).unwrap();
    let fault = short.infer(three(), soon()).await.unwrap_err();
    assert_eq!(
        (fault.code, fault.message.as_str()),
        (Code::InvalidInput, "the model's outputs are too large, beginning with `y`; on other inputs it works")
    );
    // A label of 8 bytes and 40 bytes of probabilities for a row.
    let rows = |count: i64| vec![floats("X", &[count, 64], &DIGIT.repeat(usize::try_from(count).unwrap()))];
    let two = try_load("digits", &fits(96)).unwrap();
    assert_eq!(outputs(&two, rows(2)).await[1].shape, [2, 10]);
    assert_eq!(infer(&two, rows(3)).await.unwrap_err().code, Code::InvalidInput);
}
