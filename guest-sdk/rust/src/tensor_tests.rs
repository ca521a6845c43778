//! Tensors there and back, and what is refused on the way.

use super::*;
use crate::ErrorKind;

fn refused(result: Result<Tensor, Error>) -> String {
    let error = result.expect_err("it should be refused");
    assert_eq!(error.kind, ErrorKind::InvalidInput);
    error.message
}

#[test]
fn values_come_back_as_they_went() {
    let tensor = Tensor::f32("x", [2, 3], vec![0.5, -1.0, f32::NAN, f32::INFINITY, 0.0, 1e-40]).unwrap();
    assert_eq!((tensor.dtype, tensor.shape.as_slice(), tensor.data.len()), (Dtype::Fp32, &[2, 3][..], 24));
    assert_eq!(tensor.as_f32().unwrap()[..2], [0.5, -1.0]);
    assert_eq!(tensor.data[..4], 0.5_f32.to_le_bytes());
    assert_eq!(*Tensor::i64("n", [2], [i64::MIN, 7]).unwrap().as_i64().unwrap(), [i64::MIN, 7]);
    assert_eq!(*Tensor::u8("b", [1, 2], b"ab").unwrap().as_u8().unwrap(), *b"ab");
    assert_eq!(*Tensor::f64("d", [], [1.5]).unwrap().as_f64().unwrap(), [1.5]);
    assert_eq!(*Tensor::bool("f", [3], [true, false, true]).unwrap().as_bool().unwrap(), [true, false, true]);
    assert!(Tensor::i32("e", [0, 4], []).unwrap().as_i32().unwrap().is_empty());
}

#[test]
fn more_or_fewer_values_than_the_shape_takes_are_refused() {
    assert_eq!(refused(Tensor::f32("X", [1, 64], [0.0; 63])), "tensor `X`: 63 values, but shape [1, 64] takes 64");
    assert_eq!(refused(Tensor::collect("x", [2], [1_i32])), "tensor `x`: 1 values, but shape [2] takes 2");
    assert_eq!(refused(Tensor::collect("x", [2], [1_i32; 5])), "tensor `x`: 5 values, but shape [2] takes 2");
    assert_eq!(refused(Tensor::bytes("s", [2], ["a"])), "tensor `s`: 1 byte strings, but shape [2] takes 2");
    let huge = [usize::MAX, 2];
    assert_eq!(refused(Tensor::u8("x", huge, [])), format!("tensor `x`: shape {huge:?} takes more than fits in memory"));
    assert_eq!(
        refused(Tensor::collect("x", [usize::MAX], [0_i32])),
        format!("tensor `x`: shape {:?} takes more than fits in memory", [usize::MAX])
    );
}

#[test]
fn an_iterator_fills_a_tensor_as_a_list_does() {
    let listed = Tensor::f32("x", [2, 2], [0.0, 0.5, 1.0, 1.5]).unwrap();
    assert_eq!(Tensor::collect("x", [2, 2], (0_u8..4).map(|n| f32::from(n) / 2.0)).unwrap(), listed);
}

#[test]
fn raw_bytes_are_counted_by_their_type() {
    assert_eq!(Tensor::raw("x", Dtype::Fp16, [1, 2], vec![0; 4]).unwrap().data, [0; 4]);
    assert_eq!(refused(Tensor::raw("x", Dtype::Fp32, [1], vec![0; 5])), "tensor `x`: 5 bytes are no whole values of FP32");
    assert_eq!(refused(Tensor::raw("x", Dtype::Fp32, [1], vec![0; 8])), "tensor `x`: 2 values, but shape [1] takes 1");
    let strings = |data: &[u8]| Tensor::raw("s", Dtype::Bytes, [1], data.to_vec());
    assert_eq!(strings(b"\x01\0\0\0a").unwrap().as_bytes().unwrap(), [b"a"]);
    assert_eq!(refused(strings(b"\x02\0\0\0a")), "tensor `s`: the data ends within byte string 0");
    assert_eq!(refused(strings(b"\0\0\0\0\0")), "tensor `s`: the data ends within byte string 1");
}

#[test]
fn byte_strings_come_back_as_they_went() {
    let tensor = Tensor::bytes("s", [3], ["", "é", "b"]).unwrap();
    assert_eq!(tensor.as_bytes().unwrap(), ["".as_bytes(), "é".as_bytes(), b"b"]);
}

#[test]
fn a_view_names_the_type_that_it_is_not() {
    let error = Tensor::i64("label", [1], [2]).unwrap().as_f32().unwrap_err();
    assert_eq!(error, Error::internal("tensor `label`: datatype INT64, but FP32 is asked for"));
    let mut flag = Tensor::bool("f", [1], [true]).unwrap();
    flag.data[0] = 2;
    assert_eq!(flag.as_bool().unwrap_err().kind, ErrorKind::Internal);
    let mut short = Tensor::i16("i", [1], [1]).unwrap();
    short.data.push(0);
    assert_eq!(short.as_i16().unwrap_err().kind, ErrorKind::Internal);
}

#[test]
fn tensors_are_found_by_name_or_alone() {
    let tensors = vec![Tensor::u8("a", [1], [1]).unwrap(), Tensor::u8("b", [1], [2]).unwrap()];
    assert_eq!(Tensor::find(&tensors, "b").unwrap().data, [2]);
    assert_eq!(Tensor::find(&tensors, "c").unwrap_err().message, r#"there is no tensor `c` among ["a", "b"]"#);
    assert_eq!(Tensor::only(tensors[..1].to_vec()).unwrap().name, "a");
    assert_eq!(Tensor::only(tensors).unwrap_err().message, "there are 2 tensors where one is expected");
}
