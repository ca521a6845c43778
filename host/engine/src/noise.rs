//! Inputs of noise for a model, the same each time. Pure, but for the memory that it is written into.

use half::{bf16, f16};
use sandmill_domain::{Axis, Blame, Code, Dtype, Fault, Lender, Mismatch, Signature, Tensor, TensorSpec};
use serde::{Deserialize, Serialize};

/// Which noise a model is fed, by its inputs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Noise {
    /// Where the first axis varies, it does not count.
    pub(crate) shapes: Vec<Vec<i64>>,
    /// The largest whole number.
    pub(crate) whole_max: Vec<u64>,
}

impl Noise {
    /// So many rows of it, if the model's tensors have rows.
    ///
    /// # Errors
    /// `ModelFailed` if the shapes are not the signature's, `Overloaded` if there is no memory.
    pub(crate) fn inputs(
        &self,
        signature: &Signature,
        lender: &dyn Lender,
        rows: usize,
        seed: u64,
    ) -> Result<Vec<Tensor>, Fault> {
        let mut random = Random(seed);
        let tensor = |((spec, like), whole_max): ((&TensorSpec, &Vec<i64>), &u64)| {
            let mut shape = like.clone();
            if let (Some(first), Some(Axis::Dynamic { .. })) = (shape.first_mut(), spec.shape.first()) {
                *first = rows as i64;
            }
            let count = spec.check_shape(spec.dtype, &shape).map_err(|error| unfit(&error))?;
            let mut buffer = lender.lend(count.saturating_mul(spec.dtype.size().unwrap_or(4)))?;
            for _ in 0..count {
                buffer.push(random.element(spec.dtype, *whole_max).as_slice()).map_err(|_| short())?;
            }
            Ok(Tensor { name: spec.name.clone(), dtype: spec.dtype, shape, data: buffer.freeze() })
        };
        signature.inputs.iter().zip(&self.shapes).zip(&self.whole_max).map(tensor).collect()
    }
}

/// Inputs of ours that the model's own signature refuses.
pub(crate) fn unfit(mismatch: &Mismatch) -> Fault {
    Fault::new(Code::ModelFailed, mismatch.to_string())
}

pub(crate) fn short() -> Fault {
    Fault::new(Code::Internal, "a lent buffer is too short").blaming(Blame::Host)
}

/// The same noise each time (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number from 0 to 1, or a whole one of at most so much.
    fn element(&mut self, dtype: Dtype, whole_max: u64) -> Element {
        let word = self.next();
        let real = (word >> 11) as f64 / (1_u64 << 53) as f64;
        match dtype {
            #[expect(clippy::cast_possible_truncation, reason = "noise needs no more precision than its type has")]
            Dtype::Fp32 => Element::of(&(real as f32).to_le_bytes()),
            Dtype::Fp64 => Element::of(&real.to_le_bytes()),
            Dtype::Fp16 => Element::of(&f16::from_f64(real).to_le_bytes()),
            Dtype::Bf16 => Element::of(&bf16::from_f64(real).to_le_bytes()),
            // An empty byte string is a length of zero.
            Dtype::Bytes => Element::of(&[0; 4]),
            _ => {
                let bits = dtype.size().unwrap_or(4) * 8;
                let max = if dtype == Dtype::Bool { 1 } else { whole_max.min((1 << (bits - 1)) - 1) };
                Element::of(&(word % (max + 1)).to_le_bytes()[..bits / 8])
            }
        }
    }
}

/// The bytes of one element.
struct Element([u8; 8], usize);

impl Element {
    fn of(bytes: &[u8]) -> Self {
        let mut element = [0; 8];
        element[..bytes.len()].copy_from_slice(bytes);
        Self(element, bytes.len())
    }

    fn as_slice(&self) -> &[u8] {
        &self.0[..self.1]
    }
}
