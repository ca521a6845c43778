//! Tensors from values and back. Row-major, little-endian; checked when made and when read, copied at most once.

use std::borrow::Cow;
use std::fmt;

use bytemuck::checked;

use crate::{Dtype, Error, Tensor};

/// A Rust type whose values a tensor can hold as they lie in memory.
pub trait Element: bytemuck::NoUninit + bytemuck::CheckedBitPattern {
    /// The element type that the model knows it by.
    const DTYPE: Dtype;
}

/// One constructor and one view for each type with a plain Rust twin.
macro_rules! elements {
    ($($type:ident $view:ident $dtype:ident)*) => {
        $(impl Element for $type {
            const DTYPE: Dtype = Dtype::$dtype;
        })*

        impl Tensor {
            $(
                #[doc = concat!("A tensor of `", stringify!($type), "` values, row-major, which are copied once; see [`Tensor::new`].")]
                ///
                /// # Errors
                /// [`Error::invalid_input`] if there are more or fewer values than the shape takes.
                pub fn $type(name: &str, shape: impl AsRef<[usize]>, values: impl AsRef<[$type]>) -> Result<Self, Error> {
                    Self::new(name, shape, values)
                }

                #[doc = concat!("The values as `", stringify!($type), "`, row-major; see [`Tensor::values`].")]
                ///
                /// # Errors
                /// [`Error::internal`] if the tensor is of another type.
                pub fn $view(&self) -> Result<Cow<'_, [$type]>, Error> {
                    self.values()
                }
            )*
        }
    };
}

elements! {
    bool as_bool Boolean
    u8 as_u8 Uint8
    u16 as_u16 Uint16
    u32 as_u32 Uint32
    u64 as_u64 Uint64
    i8 as_i8 Int8
    i16 as_i16 Int16
    i32 as_i32 Int32
    i64 as_i64 Int64
    f32 as_f32 Fp32
    f64 as_f64 Fp64
}

impl Tensor {
    /// A tensor of `values`, row-major, which are copied once. A shape without axes takes one value.
    ///
    /// # Errors
    /// [`Error::invalid_input`] if there are more or fewer values than the shape takes.
    pub fn new<T: Element>(name: &str, shape: impl AsRef<[usize]>, values: impl AsRef<[T]>) -> Result<Self, Error> {
        let values = values.as_ref();
        check_count(name, shape.as_ref(), values.len(), "values")?;
        Ok(Self::unchecked(name, T::DTYPE, shape.as_ref(), bytemuck::cast_slice(values).to_vec()))
    }

    /// A tensor of the values that an iterator gives, row-major, without a list of them in between: memory that a plugin
    /// does not touch is time that it saves.
    ///
    /// # Errors
    /// [`Error::invalid_input`] if there are more or fewer values than the shape takes.
    pub fn collect<T: Element>(
        name: &str,
        shape: impl AsRef<[usize]>,
        values: impl IntoIterator<Item = T>,
    ) -> Result<Self, Error> {
        let shape = shape.as_ref();
        let wanted = element_count(name, shape)?;
        let mut values = values.into_iter();
        let mut data = vec![0; wanted.checked_mul(size_of::<T>()).ok_or_else(|| overflow(name, shape))?];
        let mut count = 0;
        for (slot, value) in data.chunks_exact_mut(size_of::<T>()).zip(&mut values) {
            slot.copy_from_slice(bytemuck::bytes_of(&value));
            count += 1;
        }
        check_count(name, shape, count + values.count(), "values")?;
        Ok(Self::unchecked(name, T::DTYPE, shape, data))
    }

    /// A tensor of any type over bytes in its plain form, which are moved, not copied.
    ///
    /// # Errors
    /// [`Error::invalid_input`] if there are more or fewer bytes, or byte strings, than the shape takes.
    pub fn raw(name: &str, dtype: Dtype, shape: impl AsRef<[usize]>, data: Vec<u8>) -> Result<Self, Error> {
        let shape = shape.as_ref();
        match dtype.size() {
            Some(size) if data.len().is_multiple_of(size) => check_count(name, shape, data.len() / size, "values")?,
            Some(_) => {
                return Err(Error::invalid_input(format_args!(
                    "tensor `{name}`: {} bytes are no whole values of {dtype}",
                    data.len()
                )));
            }
            None => check_count(name, shape, split_strings(name, &data)?.len(), "byte strings")?,
        }
        Ok(Self::unchecked(name, dtype, shape, data))
    }

    /// A tensor of byte strings; `&str` and `String` will do.
    ///
    /// # Errors
    /// [`Error::invalid_input`] if there are more or fewer strings than the shape takes, or one of 4 GiB.
    pub fn bytes<S: AsRef<[u8]>>(
        name: &str,
        shape: impl AsRef<[usize]>,
        strings: impl IntoIterator<Item = S>,
    ) -> Result<Self, Error> {
        let (mut data, mut count) = (Vec::new(), 0);
        for string in strings {
            let string = string.as_ref();
            let length = u32::try_from(string.len())
                .map_err(|_| Error::invalid_input(format_args!("tensor `{name}`: byte string {count} is too long")))?;
            data.extend_from_slice(&length.to_le_bytes());
            data.extend_from_slice(string);
            count += 1;
        }
        check_count(name, shape.as_ref(), count, "byte strings")?;
        Ok(Self::unchecked(name, Dtype::Bytes, shape.as_ref(), data))
    }

    /// The values, row-major: borrowed where they lie aligned in memory, as they do when they come from the host.
    ///
    /// # Errors
    /// [`Error::internal`] if the tensor is of another type, or its bytes are no such values.
    pub fn values<T: Element>(&self) -> Result<Cow<'_, [T]>, Error> {
        self.check_dtype(T::DTYPE)?;
        if let Ok(values) = checked::try_cast_slice(&self.data) {
            return Ok(Cow::Borrowed(values));
        }
        let values: Result<Vec<T>, _> = self.data.chunks(size_of::<T>()).map(checked::try_pod_read_unaligned).collect();
        values.map(Cow::Owned).map_err(|error| self.malformed(error))
    }

    /// The elements of a tensor of byte strings.
    ///
    /// # Errors
    /// [`Error::internal`] if the tensor is of another type, or its bytes end within a string.
    pub fn as_bytes(&self) -> Result<Vec<&[u8]>, Error> {
        self.check_dtype(Dtype::Bytes)?;
        split_strings(&self.name, &self.data).map_err(|error| self.malformed(error))
    }

    /// The tensor of this name.
    ///
    /// # Errors
    /// [`Error::internal`] if there is none; it names those that there are.
    pub fn find<'a>(tensors: &'a [Self], name: &str) -> Result<&'a Self, Error> {
        tensors.iter().find(|tensor| tensor.name == name).ok_or_else(|| {
            let names: Vec<_> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
            Error::internal(format_args!("there is no tensor `{name}` among {names:?}"))
        })
    }

    /// The only tensor of a list, moved out of it.
    ///
    /// # Errors
    /// [`Error::internal`] if there is none or more than one.
    pub fn only(tensors: Vec<Self>) -> Result<Self, Error> {
        let [tensor] = <[Self; 1]>::try_from(tensors)
            .map_err(|tensors| Error::internal(format_args!("there are {} tensors where one is expected", tensors.len())))?;
        Ok(tensor)
    }

    fn unchecked(name: &str, dtype: Dtype, shape: &[usize], data: Vec<u8>) -> Self {
        Self { name: name.into(), dtype, shape: shape.iter().map(|&axis| axis as u64).collect(), data }
    }

    fn check_dtype(&self, wanted: Dtype) -> Result<(), Error> {
        if self.dtype == wanted {
            return Ok(());
        }
        Err(self.malformed(format_args!("datatype {}, but {wanted} is asked for", self.dtype)))
    }

    fn malformed(&self, what: impl fmt::Display) -> Error {
        Error::internal(format_args!("tensor `{}`: {what}", self.name))
    }
}

fn element_count(name: &str, shape: &[usize]) -> Result<usize, Error> {
    shape.iter().try_fold(1_usize, |count, &axis| count.checked_mul(axis)).ok_or_else(|| overflow(name, shape))
}

fn overflow(name: &str, shape: &[usize]) -> Error {
    Error::invalid_input(format_args!("tensor `{name}`: shape {shape:?} takes more than fits in memory"))
}

fn check_count(name: &str, shape: &[usize], count: usize, what: &str) -> Result<(), Error> {
    let wanted = element_count(name, shape)?;
    if count == wanted {
        return Ok(());
    }
    Err(Error::invalid_input(format_args!("tensor `{name}`: {count} {what}, but shape {shape:?} takes {wanted}")))
}

/// The elements of BYTES data: each a 32-bit little-endian length and its bytes.
fn split_strings<'a>(name: &str, mut data: &'a [u8]) -> Result<Vec<&'a [u8]>, Error> {
    let mut strings = Vec::new();
    while !data.is_empty() {
        let Some((string, rest)) = split_string(data) else {
            return Err(Error::invalid_input(format_args!(
                "tensor `{name}`: the data ends within byte string {}",
                strings.len()
            )));
        };
        strings.push(string);
        data = rest;
    }
    Ok(strings)
}

fn split_string(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = data.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)
}

#[cfg(test)]
#[path = "tensor_tests.rs"]
mod tests;
