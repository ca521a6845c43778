//! The elements of one tensor, from JSON into a lent buffer: flat or nested as the shape says, each in the range of its
//! type. Knows nothing of the request around them.

use std::str::FromStr;

use bytes::Bytes;
use half::{bf16, f16};
use jiter::{Jiter, JiterError, JiterErrorType, Peek};
use sandmill_domain::{Buffer, Code, Dtype, Fault, Lender, TensorSpec};

use crate::refusal::{Refusal, excerpt, invalid};

/// What the JSON must hold.
pub(crate) struct Expected<'a> {
    pub(crate) spec: &'a TensorSpec,
    /// Has passed [`TensorSpec::check_shape`].
    pub(crate) shape: &'a [i64],
    /// The product of `shape`.
    pub(crate) count: usize,
    /// How much JSON is left at most.
    pub(crate) json_bytes: usize,
}

/// Why an element does not fit.
enum Wrong {
    Json(JiterError),
    /// The number as it stands there.
    Number(String),
    /// The string is too long for its 32-bit length.
    Length,
    /// The lender gave less than it was asked for.
    Room,
}

impl From<JiterError> for Wrong {
    fn from(error: JiterError) -> Self {
        Self::Json(error)
    }
}

/// Reads an array of `expected.count` elements, which is what `jiter` stands before. A 64-bit integer never passes
/// through a float, nor a 32-bit float through a wider one, which would round twice.
pub(crate) fn read(jiter: &mut Jiter<'_>, expected: &Expected<'_>, lender: &dyn Lender) -> Result<Bytes, Refusal> {
    // Each element takes a byte at least: a large shape with little behind it borrows nothing.
    if expected.count > expected.json_bytes {
        return Err(invalid(format!("tensor `{}`: too few elements for shape {:?}", expected.spec.name, expected.shape)));
    }
    let to_fp16 = |value: &f64| f16::from_f64(*value);
    let to_bf16 = |value: &f64| bf16::from_f64(*value);
    match expected.spec.dtype {
        Dtype::Bool => fill(jiter, expected, lender, |jiter, peek| Ok([u8::from(jiter.known_bool(peek)?)])),
        Dtype::Uint8 => fill(jiter, expected, lender, |jiter, peek| Ok(integer::<u8>(jiter, peek)?.to_le_bytes())),
        Dtype::Uint16 => fill(jiter, expected, lender, |jiter, peek| Ok(integer::<u16>(jiter, peek)?.to_le_bytes())),
        Dtype::Uint32 => fill(jiter, expected, lender, |jiter, peek| Ok(integer::<u32>(jiter, peek)?.to_le_bytes())),
        Dtype::Uint64 => fill(jiter, expected, lender, |jiter, peek| Ok(integer::<u64>(jiter, peek)?.to_le_bytes())),
        Dtype::Int8 => fill(jiter, expected, lender, |jiter, peek| Ok(integer::<i8>(jiter, peek)?.to_le_bytes())),
        Dtype::Int16 => fill(jiter, expected, lender, |jiter, peek| Ok(integer::<i16>(jiter, peek)?.to_le_bytes())),
        Dtype::Int32 => fill(jiter, expected, lender, |jiter, peek| Ok(integer::<i32>(jiter, peek)?.to_le_bytes())),
        Dtype::Int64 => fill(jiter, expected, lender, |jiter, peek| Ok(integer::<i64>(jiter, peek)?.to_le_bytes())),
        Dtype::Fp16 => fill(jiter, expected, lender, |jiter, peek| {
            Ok(to_fp16(&number(jiter, peek, |value| to_fp16(value).is_infinite())?).to_le_bytes())
        }),
        Dtype::Bf16 => fill(jiter, expected, lender, |jiter, peek| {
            Ok(to_bf16(&number(jiter, peek, |value| to_bf16(value).is_infinite())?).to_le_bytes())
        }),
        Dtype::Fp32 => {
            fill(jiter, expected, lender, |jiter, peek| Ok(number(jiter, peek, |value: &f32| value.is_infinite())?.to_le_bytes()))
        }
        Dtype::Fp64 => {
            fill(jiter, expected, lender, |jiter, peek| Ok(number(jiter, peek, |value: &f64| value.is_infinite())?.to_le_bytes()))
        }
        Dtype::Bytes => strings(jiter, expected, lender),
    }
}

fn fill<const N: usize>(
    jiter: &mut Jiter<'_>,
    expected: &Expected<'_>,
    lender: &dyn Lender,
    element: impl Fn(&mut Jiter<'_>, Peek) -> Result<[u8; N], Wrong>,
) -> Result<Bytes, Refusal> {
    let mut buffer = lender.lend(expected.count * N)?;
    walk(jiter, expected, |jiter, peek| push(&mut buffer, &element(jiter, peek)?))?;
    Ok(buffer.freeze())
}

/// Once to learn how long they are without their escapes, and once to copy them.
fn strings(jiter: &mut Jiter<'_>, expected: &Expected<'_>, lender: &dyn Lender) -> Result<Bytes, Refusal> {
    let mut bytes = 0_usize;
    walk(&mut jiter.clone(), expected, |jiter, peek| {
        bytes += 4 + string(jiter, peek)?.1.len();
        Ok(())
    })?;
    let mut buffer = lender.lend(bytes)?;
    walk(jiter, expected, |jiter, peek| {
        let (length, text) = string(jiter, peek)?;
        push(&mut buffer, &length.to_le_bytes())?;
        push(&mut buffer, text.as_bytes())
    })?;
    Ok(buffer.freeze())
}

fn push(buffer: &mut Buffer, bytes: &[u8]) -> Result<(), Wrong> {
    buffer.push(bytes).map_err(|_| Wrong::Room)
}

fn string<'a>(jiter: &'a mut Jiter<'_>, peek: Peek) -> Result<(u32, &'a str), Wrong> {
    if peek != Peek::String {
        // Says what was found instead.
        jiter.next_str()?;
    }
    let text = jiter.known_str()?;
    Ok((u32::try_from(text.len()).map_err(|_| Wrong::Length)?, text))
}

fn integer<T: FromStr>(jiter: &mut Jiter<'_>, peek: Peek) -> Result<T, Wrong> {
    number(jiter, peek, |_| false)
}

/// One number. Infinite ones are only those that say so: the token `Infinity` is the only one to end in a letter `y`.
fn number<T: FromStr>(jiter: &mut Jiter<'_>, peek: Peek, is_infinite: impl Fn(&T) -> bool) -> Result<T, Wrong> {
    let text = jiter.known_number_bytes(peek)?;
    let value = str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    value
        .filter(|value| !is_infinite(value) || text.ends_with(b"y"))
        .ok_or_else(|| Wrong::Number(excerpt(&String::from_utf8_lossy(&text[..text.len().min(40)]))))
}

/// Goes over an array that is flat or nests as `expected.shape` says.
fn walk(
    jiter: &mut Jiter<'_>,
    expected: &Expected<'_>,
    element: impl FnMut(&mut Jiter<'_>, Peek) -> Result<(), Wrong>,
) -> Result<(), Refusal> {
    if jiter.peek()? != Peek::Array {
        return Err(expected.misfit(0, "`data` is no array"));
    }
    let first = jiter.known_array()?;
    let mut walk = Walk { jiter, expected, index: 0, element };
    if first == Some(Peek::Array) && expected.shape.len() > 1 {
        walk.nested(first, expected.shape)
    } else {
        walk.row(first, expected.count)
    }
}

struct Walk<'a, 'j, F> {
    jiter: &'a mut Jiter<'j>,
    expected: &'a Expected<'a>,
    index: usize,
    element: F,
}

impl<F: FnMut(&mut Jiter<'_>, Peek) -> Result<(), Wrong>> Walk<'_, '_, F> {
    /// Recurses as deep as the shape is long, and the shape's length is bounded.
    fn nested(&mut self, first: Option<Peek>, shape: &[i64]) -> Result<(), Refusal> {
        let [size, inner @ ..] = shape else { return self.row(first, 1) };
        if inner.is_empty() {
            return self.row(first, usize::try_from(*size).map_err(|_| self.misfit("negative size"))?);
        }
        let mut next = first;
        for _ in 0..*size {
            match next {
                Some(Peek::Array) => {}
                Some(_) => return Err(self.misfit("not nested deep enough")),
                None => return Err(self.misfit("too few elements")),
            }
            let first = self.jiter.known_array()?;
            self.nested(first, inner)?;
            next = self.jiter.array_step()?;
        }
        self.end(next)
    }

    fn row(&mut self, first: Option<Peek>, count: usize) -> Result<(), Refusal> {
        let mut next = first;
        for _ in 0..count {
            let peek = next.ok_or_else(|| self.misfit("too few elements"))?;
            (self.element)(self.jiter, peek).map_err(|wrong| self.expected.wrong(self.index, wrong))?;
            self.index += 1;
            next = self.jiter.array_step()?;
        }
        self.end(next)
    }

    fn end(&self, next: Option<Peek>) -> Result<(), Refusal> {
        if next.is_none() { Ok(()) } else { Err(self.misfit("too many elements")) }
    }

    fn misfit(&self, what: &str) -> Refusal {
        self.expected.misfit(self.index, what)
    }
}

impl Expected<'_> {
    fn misfit(&self, index: usize, what: &str) -> Refusal {
        invalid(format!("tensor `{}`: element {index}: {what} for shape {:?}", self.spec.name, self.shape))
    }

    fn wrong(&self, index: usize, wrong: Wrong) -> Refusal {
        let dtype = self.spec.dtype;
        let what = match wrong {
            Wrong::Json(JiterError { error_type: JiterErrorType::WrongType { actual, .. }, .. }) => {
                format!("{actual} where {dtype} is expected")
            }
            Wrong::Json(JiterError { error_type: JiterErrorType::JsonError(error), .. }) => error.to_string(),
            Wrong::Number(text) => format!("`{text}` does not fit {dtype}"),
            Wrong::Length => format!("too long for {dtype}"),
            Wrong::Room => return Fault::new(Code::Internal, "a lent buffer is too small").into(),
        };
        invalid(format!("tensor `{}`: element {index}: {what}", self.spec.name))
    }
}
