//! The runtime's C interface: one run of a shared session on borrowed inputs. Knows nothing of queues, threads and deadlines, nor
//! of who runs the nodes.
#![allow(unsafe_code, reason = "ort's own `run` wants the session for itself and copies; the C function does neither")]

use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;

use bytes::Bytes;
use ort::environment::Environment;
use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::{RunOptions, Session, SharedSessionInner};
use ort::{AsPointer, ErrorCode, ortsys};
use ort_sys::{
    ONNXTensorElementDataType as ElementType, OrtKeyValuePairs, OrtMemoryInfo, OrtMemoryInfoDeviceType as DeviceKind,
    OrtTensorTypeAndShapeInfo, OrtTypeInfo, OrtValue,
};
use sandmill_domain::{Blame, Code, Dtype, Fault, Lender, Tensor, byte_strings, element_count};
use thiserror::Error;

/// A loaded model that any number of threads may run at once.
///
/// Whoever runs its nodes, what goes in and comes out lies in memory that this process can read: the runtime copies inputs to
/// where they are needed, and outputs that the caller brings no memory for to that of the CPU. That it has is checked for each
/// of them.
/// <https://github.com/microsoft/onnxruntime/blob/v1.31.0/onnxruntime/core/framework/utils.cc> (`FinalizeCopyInfoForFetches`)
pub(crate) struct RawSession {
    /// Its weights and whatever its runs need are taken from it. Goes before the session.
    arena: Arena,
    session: Session,
    memory: MemoryInfo<'static>,
    inputs: Vec<Name>,
    outputs: Vec<Name>,
}

/// A name, as both languages want it.
struct Name {
    text: String,
    c: CString,
}

impl Name {
    fn new(text: &str) -> ort::Result<Self> {
        Ok(Self { text: text.to_owned(), c: CString::new(text).map_err(ort::Error::wrap)? })
    }
}

/// The memory that a session's weights and runs take, only ever asked how much that is.
struct Arena(Allocator);

// SAFETY: the runtime's arena locks itself when it is asked, as it does when runs on several threads take memory from it.
unsafe impl Sync for Arena {}

/// A value of the runtime's, released when dropped.
struct Value(NonNull<OrtValue>);

// SAFETY: an OrtValue belongs to no thread: the runtime creates, uses and releases it on any, and we never on two at once.
unsafe impl Send for Value {}

impl Value {
    fn pointer(&self) -> *mut OrtValue {
        self.0.as_ptr()
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        // SAFETY: we own the value and nobody uses it after its drop.
        ortsys![unsafe ReleaseValue(self.pointer())];
    }
}

/// An input, and the bytes it points to.
struct Feed {
    // In this order: the value goes before what it points to.
    value: Value,
    bytes: Bytes,
}

/// The elements of an output, in the runtime's own memory.
struct Output {
    // In this order: the value goes before the session whose arena it lies in.
    _value: Value,
    elements: NonNull<u8>,
    len: usize,
    _session: Arc<SharedSessionInner>,
}

// SAFETY: the pointer leads into the value, which may move between threads; the memory is only ever read.
unsafe impl Send for Output {}

impl AsRef<[u8]> for Output {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `Reader` has made sure that the value holds `len` bytes there, in the CPU's memory; it lives as long as `self`,
        // and nobody writes to it: the run that made it is over.
        unsafe { slice::from_raw_parts(self.elements.as_ptr(), self.len) }
    }
}

/// What one run may use.
#[derive(Clone, Copy)]
pub(crate) struct Room<'a> {
    /// Where inputs that lie askew, and byte strings, are put.
    pub(crate) lender: &'a dyn Lender,
    /// The bytes of all outputs.
    pub(crate) output_bytes_max: usize,
}

/// Reads the outputs of one run.
struct Reader<'a> {
    session: &'a Session,
    feeds: &'a [Feed],
    lender: &'a dyn Lender,
    /// What is left of the outputs' bound.
    bytes_left: usize,
}

impl RawSession {
    /// Takes a loaded session.
    pub(crate) fn new(session: Session) -> ort::Result<Self> {
        let memory = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default)?;
        let inputs = session.inputs().iter().map(|input| Name::new(input.name())).collect::<Result<_, _>>()?;
        let outputs = session.outputs().iter().map(|output| Name::new(output.name())).collect::<Result<_, _>>()?;
        let arena = Arena(Allocator::new(&session, memory.clone())?);
        Ok(Self { arena, session, memory, inputs, outputs })
    }

    /// The bytes that it has taken from the system for weights and runs, by the runtime's own account.
    pub(crate) fn memory_bytes(&self) -> usize {
        let mut pairs: *mut OrtKeyValuePairs = ptr::null_mut();
        // SAFETY: the allocator is the session's and lives with it; what it tells is ours to release.
        let told = ortsys![@ort: unsafe AllocatorGetStats(self.arena.0.ptr(), &mut pairs) as Result];
        if told.is_err() || pairs.is_null() {
            return 0;
        }
        // SAFETY: not null, and the key ends with a zero.
        let value = ortsys![unsafe GetKeyValue(pairs, c"TotalAllocated".as_ptr())];
        // SAFETY: not null, and then a string in the pairs.
        let text = (!value.is_null()).then(|| unsafe { CStr::from_ptr(value) }.to_string_lossy().into_owned());
        // SAFETY: ours, and not used again.
        ortsys![unsafe ReleaseKeyValuePairs(pairs)];
        text.and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// Runs the model once; outputs in the order of the signature. `options` can end it from another thread.
    pub(crate) fn run(&self, inputs: &[Tensor], options: &RunOptions, room: Room<'_>) -> Result<Vec<Tensor>, Fault> {
        let feeds = self.inputs.iter().map(|name| self.feed(&name.text, inputs, room.lender)).collect::<Result<Vec<_>, _>>()?;
        let values = self.call(&feeds, options).map_err(failed)?;
        let mut reader = Reader { session: &self.session, feeds: &feeds, lender: room.lender, bytes_left: room.output_bytes_max };
        self.outputs.iter().zip(values).map(|(name, value)| reader.output(&name.text, value)).collect()
    }

    /// Calls `Run`; none for an output that the model left out.
    fn call(&self, feeds: &[Feed], options: &RunOptions) -> ort::Result<Vec<Option<Value>>> {
        let input_names: Vec<*const c_char> = self.inputs.iter().map(|name| name.c.as_ptr()).collect();
        let output_names: Vec<*const c_char> = self.outputs.iter().map(|name| name.c.as_ptr()).collect();
        let inputs: Vec<*const OrtValue> = feeds.iter().map(|feed| feed.value.pointer().cast_const()).collect();
        let mut outputs: Vec<*mut OrtValue> = vec![ptr::null_mut(); output_names.len()];
        // SAFETY: all lists are as long as we say, and they, the names, the inputs with their bytes and the options outlive the
        // call. The runtime documents `Run` as safe to call from several threads on one session; it takes the session as
        // mutable for its interface's sake. It only reads inputs: its planner counts the caller as one more user of each, so
        // that no kernel ever works in place on them. A device's copy of them is made before it returns, an error or not: CUDA
        // stages what lies in ordinary memory, as ours does, before the call that copies it returns.
        let result = ortsys![
            @ort: unsafe Run(
                self.session.ptr().cast_mut(),
                options.ptr(),
                input_names.as_ptr(),
                inputs.as_ptr(),
                inputs.len(),
                output_names.as_ptr(),
                output_names.len(),
                outputs.as_mut_ptr()
            ) as Result
        ];
        // Owned before anything else, so that they are released on an error too.
        let outputs = outputs.into_iter().map(|output| NonNull::new(output).map(Value)).collect();
        result.map(|()| outputs)
    }

    /// Makes the input `name` of the tensor with that name, without a copy where its alignment allows.
    fn feed(&self, name: &str, tensors: &[Tensor], lender: &dyn Lender) -> Result<Feed, Fault> {
        let tensor = tensors.iter().find(|tensor| tensor.name == name).ok_or_else(|| invalid(name, "it is missing"))?;
        let count = element_count(&tensor.shape).ok_or_else(|| invalid(name, "its shape makes no sense"))?;
        let Some(size) = tensor.dtype.size() else { return self.feed_strings(tensor, count) };
        if count.checked_mul(size) != Some(tensor.data.len()) {
            return Err(invalid(name, "its data is not as long as its shape says"));
        }
        // The runtime reads BOOL as C++ `bool`, which may hold nothing else.
        if tensor.dtype == Dtype::Bool && tensor.data.iter().any(|byte| *byte > 1) {
            return Err(invalid(name, "a BOOL is neither 0 nor 1"));
        }
        let bytes = aligned(&tensor.data, size, lender)?;
        let value = self.borrow(&bytes, &tensor.shape, tensor.dtype).map_err(failed)?;
        Ok(Feed { value, bytes })
    }

    /// A value over `bytes`, which the caller keeps for as long as the value, aligned and of the length that the shape says.
    fn borrow(&self, bytes: &Bytes, shape: &[i64], dtype: Dtype) -> ort::Result<Value> {
        let mut value = ptr::null_mut();
        // SAFETY: the bytes are there for as long as the value (`Feed` holds both), aligned for the type and of the length that
        // the runtime checks against the shape once more. It takes them as mutable but never writes to an input (see `call`).
        // It copies the shape.
        ortsys![
            unsafe CreateTensorWithDataAsOrtValue(
                self.memory.ptr(),
                bytes.as_ptr().cast_mut().cast::<c_void>(),
                bytes.len(),
                shape.as_ptr(),
                shape.len(),
                element_type(dtype),
                &mut value
            )?;
            nonNull(value)
        ];
        Ok(Value(value))
    }

    /// Copies byte strings into the runtime's own.
    fn feed_strings(&self, tensor: &Tensor, count: usize) -> Result<Feed, Fault> {
        let strings = byte_strings(&tensor.data).collect::<Result<Vec<_>, _>>().ok().filter(|strings| strings.len() == count);
        let strings =
            strings.ok_or_else(|| invalid(&tensor.name, "its data does not hold as many byte strings as its shape says"))?;
        let value = self.string_value(&tensor.shape, &strings).map_err(failed)?;
        Ok(Feed { value, bytes: Bytes::new() })
    }

    fn string_value(&self, shape: &[i64], strings: &[&[u8]]) -> ort::Result<Value> {
        let mut value = ptr::null_mut();
        let allocator = self.session.allocator().ptr().cast_mut();
        // SAFETY: the allocator is the runtime's own, which lives as long as the process; the shape is copied.
        ortsys![
            unsafe CreateTensorAsOrtValue(allocator, shape.as_ptr(), shape.len(), element_type(Dtype::Bytes), &mut value)?;
            nonNull(value)
        ];
        let value = Value(value);
        for (index, string) in strings.iter().enumerate() {
            let mut buffer: *mut c_char = ptr::null_mut();
            // SAFETY: the value is a string tensor, and the runtime checks the index.
            ortsys![unsafe GetResizedStringTensorElementBuffer(value.pointer(), index, string.len(), &mut buffer)?; nonNull(buffer)];
            // SAFETY: the buffer is the new element's, `string.len()` bytes long, and cannot overlap ours.
            unsafe { ptr::copy_nonoverlapping(string.as_ptr(), buffer.as_ptr(), string.len()) };
        }
        Ok(value)
    }
}

impl Reader<'_> {
    /// Reads one output: its type and shape from the value, because a model may declare others.
    fn output(&mut self, name: &str, value: Option<Value>) -> Result<Tensor, Fault> {
        let value = value.ok_or_else(|| broken(name, "was left out"))?;
        let (dtype, shape) =
            describe(&value).map_err(failed)?.ok_or_else(|| broken(name, "is of a type that has no counterpart"))?;
        if !is_readable(&value).map_err(failed)? {
            return Err(broken(name, "was left on its device"));
        }
        let count = element_count(&shape).ok_or_else(|| broken(name, "has a shape that makes no sense"))?;
        let data = match dtype.size() {
            Some(size) => self.bytes(name, value, count.saturating_mul(size))?,
            None => self.strings(name, &value, count)?,
        };
        self.bytes_left -= data.len();
        Ok(Tensor { name: name.to_owned(), dtype, shape, data })
    }

    fn bytes(&self, name: &str, value: Value, len: usize) -> Result<Bytes, Fault> {
        if len > self.bytes_left {
            return Err(too_large(name));
        }
        let (elements, held) = locate(&value).map_err(failed)?;
        if held != len {
            return Err(broken(name, "is not as long as its shape says"));
        }
        let Some(elements) = NonNull::new(elements).filter(|_| len > 0) else { return Ok(Bytes::new()) };
        let output = Output { _value: value, elements, len, _session: self.session.inner() };
        // A model may hand an input through: such an output lies in the caller's memory, which it may outlive.
        let start = elements.as_ptr().cast_const();
        let is_borrowed = self.feeds.iter().any(|feed| feed.bytes.as_ptr_range().contains(&start));
        Ok(if is_borrowed { Bytes::copy_from_slice(output.as_ref()) } else { Bytes::from_owner(output) })
    }

    /// Byte strings in their plain form, each with its length before it.
    fn strings(&self, name: &str, value: &Value, count: usize) -> Result<Bytes, Fault> {
        let mut content_len = 0;
        // SAFETY: the value is a string tensor.
        let measured = ortsys![@ort: unsafe GetStringTensorDataLength(value.pointer(), &mut content_len) as Result];
        measured.map_err(failed)?;
        let len = count.checked_mul(4).and_then(|lengths| lengths.checked_add(content_len));
        let len = len.filter(|len| *len <= self.bytes_left).ok_or_else(|| too_large(name))?;
        let mut plain = self.lender.lend(len)?;
        let (content, offsets) = string_content(value, content_len, count).map_err(failed)?;
        let ends = offsets.iter().skip(1).copied().chain([content_len]);
        for (start, end) in offsets.iter().copied().zip(ends) {
            let string = content.get(start..end).ok_or_else(|| broken(name, "has strings that overlap"))?;
            let length = u32::try_from(string.len()).map_err(|_| too_large(name))?;
            let pushed = plain.push(&length.to_le_bytes()).and_then(|()| plain.push(string));
            pushed.map_err(|_| broken(name, "has more bytes than it said"))?;
        }
        Ok(plain.freeze())
    }
}

/// The version of the runtime, if it tells: the C interface shows it to whoever loads the library and later only as a property of
/// its CPU provider.
pub(crate) fn version(environment: &Environment) -> Option<String> {
    environment.devices().find_map(|device| {
        // SAFETY: the device is valid while the environment is; the table belongs to it.
        let table = ortsys![unsafe EpDevice_EpMetadata(device.ptr())];
        // SAFETY: the table is not null, and the key ends with a zero.
        let value = (!table.is_null()).then(|| ortsys![unsafe GetKeyValue(table, c"version".as_ptr())])?;
        // SAFETY: not null, and then a string in the table, which is copied at once.
        (!value.is_null()).then(|| unsafe { CStr::from_ptr(value) }.to_string_lossy().into_owned())
    })
}

/// Whether input `index` declares how many axes it has. `ort` shows one that does not as a scalar.
pub(crate) fn input_has_rank(session: &Session, index: usize) -> ort::Result<bool> {
    let mut info: *mut OrtTypeInfo = ptr::null_mut();
    // SAFETY: the runtime checks the index; what it gives is ours to release.
    ortsys![unsafe SessionGetInputTypeInfo(session.ptr(), index, &mut info)?; nonNull(info)];
    let mut shape: *const OrtTensorTypeAndShapeInfo = ptr::null();
    // SAFETY: the type is valid until its release below, and with it the view of it that this gives (null for no tensor).
    let cast = ortsys![@ort: unsafe CastTypeInfoToTensorInfo(info.as_ptr(), &mut shape) as Result];
    // SAFETY: not null, and valid as said.
    let has_rank = !shape.is_null() && ortsys![unsafe TensorTypeAndShape_HasShape(shape)];
    // SAFETY: ours, and not used again.
    ortsys![unsafe ReleaseTypeInfo(info.as_ptr())];
    cast.map(|()| has_rank)
}

/// The bytes, at an address that is a multiple of `size`: lent and copied if they are not.
fn aligned(data: &Bytes, size: usize, lender: &dyn Lender) -> Result<Bytes, Fault> {
    if data.as_ptr().addr().is_multiple_of(size) {
        return Ok(data.clone());
    }
    let mut buffer = lender.lend(data.len())?;
    buffer.push(data).map_err(|_| Fault::new(Code::Internal, "a lent buffer is too short"))?;
    Ok(buffer.freeze())
}

/// The type and shape of a value; none if it is no tensor, or of a type that the domain does not know.
fn describe(value: &Value) -> ort::Result<Option<(Dtype, Vec<i64>)>> {
    let mut is_tensor = 0;
    // SAFETY: the value is valid.
    ortsys![unsafe IsTensor(value.pointer(), &mut is_tensor)?];
    if is_tensor == 0 {
        return Ok(None);
    }
    // Read as a number: a type that a newer runtime adds is no value of our enum.
    let mut kind = 0_i32;
    let (mut axes, mut rank): (*const i64, usize) = (ptr::null(), 0);
    // SAFETY: the value is a tensor; the type is a C enum, which is as large as an i32.
    ortsys![unsafe GetTensorElementTypeAndShapeDataReference(value.pointer(), (&raw mut kind).cast(), &mut axes, &mut rank)?];
    let is_scalar = rank == 0 || axes.is_null();
    // SAFETY: the runtime gives `rank` axes, which live as long as the value; they are copied at once.
    let shape = if is_scalar { Vec::new() } else { unsafe { slice::from_raw_parts(axes, rank) }.to_vec() };
    Ok(dtype(kind).map(|dtype| (dtype, shape)))
}

/// Whether a tensor lies in the CPU's memory. What a device calls accessible to hosts is not asked for: no output that the
/// runtime has placed lies there.
fn is_readable(value: &Value) -> ort::Result<bool> {
    let mut memory: *const OrtMemoryInfo = ptr::null();
    // SAFETY: the value is a tensor, and what it gives is a view of it.
    ortsys![unsafe GetTensorMemoryInfo(value.pointer(), &mut memory)?; nonNull(memory)];
    // Read as a number: a kind of device that a newer runtime adds is no value of our enum.
    let mut device = -1_i32;
    // SAFETY: the view is valid while the value is; the kind is a C enum, which is as large as an i32.
    ortsys![unsafe MemoryInfoGetDeviceType(memory.as_ptr(), (&raw mut device).cast())];
    Ok(device == DeviceKind::OrtMemoryInfoDeviceType_CPU as i32)
}

/// Where a tensor's elements lie, and how many bytes they are.
fn locate(value: &Value) -> ort::Result<(*mut u8, usize)> {
    let (mut elements, mut len): (*const c_void, usize) = (ptr::null(), 0);
    // SAFETY: the value is a tensor and not of strings, as both functions demand.
    ortsys![unsafe GetTensorData(value.pointer(), &mut elements)?];
    // SAFETY: as above.
    ortsys![unsafe GetTensorSizeInBytes(value.pointer(), &mut len)?];
    Ok((elements.cast_mut().cast(), len))
}

/// All strings, one behind the other, and where each begins.
fn string_content(value: &Value, len: usize, count: usize) -> ort::Result<(Vec<u8>, Vec<usize>)> {
    let (mut content, mut offsets) = (vec![0_u8; len], vec![0_usize; count]);
    if count > 0 {
        let buffer = content.as_mut_ptr().cast();
        // SAFETY: the value is a string tensor; the runtime checks both lengths against it and writes no further.
        ortsys![unsafe GetStringTensorContent(value.pointer(), buffer, len, offsets.as_mut_ptr(), count)?];
    }
    Ok((content, offsets))
}

/// The runtime's number for a type.
const fn element_type(dtype: Dtype) -> ElementType {
    match dtype {
        Dtype::Bool => ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL,
        Dtype::Uint8 => ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8,
        Dtype::Uint16 => ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16,
        Dtype::Uint32 => ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32,
        Dtype::Uint64 => ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64,
        Dtype::Int8 => ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8,
        Dtype::Int16 => ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16,
        Dtype::Int32 => ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32,
        Dtype::Int64 => ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64,
        Dtype::Fp16 => ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16,
        Dtype::Bf16 => ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16,
        Dtype::Fp32 => ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
        Dtype::Fp64 => ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE,
        Dtype::Bytes => ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING,
    }
}

/// The type behind the runtime's number.
pub(crate) fn dtype(kind: i32) -> Option<Dtype> {
    Dtype::ALL.into_iter().find(|dtype| element_type(*dtype) as i32 == kind)
}

/// A device that fails once in this way fails every run from then on.
#[derive(Debug, Error)]
#[error("{0}")]
pub(crate) struct DeviceFailure(String);

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err hands over")]
fn failed(error: ort::Error) -> Fault {
    let text = error.to_string();
    if is_out_of_memory(&text) {
        return Fault::new(Code::ModelOutOfMemory, "there is not the memory for the model's run").because(text);
    }
    let fault = Fault::new(Code::ModelFailed, "the model's run failed");
    // The runtime tells CUDA's sticky errors, 700 to 719 (an illegal address, a failed launch), in its text alone.
    match error.code() == ErrorCode::ExecutionProviderFailure || text.contains("CUDA failure 7") {
        true => fault.because(DeviceFailure(text)),
        false => fault.because(text),
    }
}

/// The runtime has no code for it: its arenas, the allocator below them, and a device's libraries each tell it in words alone.
fn is_out_of_memory(text: &str) -> bool {
    const WORDS: [&str; 6] = [
        "Failed to allocate memory",
        "smaller than requested bytes",
        "bad_alloc",
        "bad allocation",
        "CUDA failure 2: out of memory",
        "STATUS_ALLOC_FAILED",
    ];
    WORDS.iter().any(|words| text.contains(words))
}

fn broken(name: &str, how: &str) -> Fault {
    Fault::new(Code::ModelFailed, format!("the model's output `{name}` {how}"))
}

fn too_large(name: &str) -> Fault {
    Fault::new(Code::ModelFailed, format!("the model's outputs are too large, beginning with `{name}`"))
}

fn invalid(name: &str, how: &str) -> Fault {
    Fault::new(Code::InvalidInput, format!("tensor `{name}`: {how}")).blaming(Blame::Caller)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support;

    struct NoLender;

    impl Lender for NoLender {
        fn lend(&self, _bytes: usize) -> Result<sandmill_domain::Buffer, Fault> {
            Err(Fault::new(Code::Overloaded, "nothing is lent here"))
        }
    }

    /// A value that says that it lies there; its bytes are ours.
    fn value(memory: &MemoryInfo<'_>, elements: &mut [f32]) -> Value {
        let mut value = ptr::null_mut();
        let (shape, bytes) = ([elements.len() as i64], size_of_val(elements));
        let mut make = || -> ort::Result<NonNull<OrtValue>> {
            // SAFETY: the elements are there for as long as the test, and as many as the shape says.
            ortsys![
                unsafe CreateTensorWithDataAsOrtValue(
                    memory.ptr(),
                    elements.as_mut_ptr().cast::<c_void>(),
                    bytes,
                    shape.as_ptr(),
                    shape.len(),
                    ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
                    &mut value
                )?;
                nonNull(value)
            ];
            Ok(value)
        };
        Value(make().unwrap())
    }

    #[test]
    fn what_lies_on_a_device_is_not_read() {
        let environment = test_support::environment();
        let model = include_bytes!("../tests/models/scalar.onnx");
        let session = Session::builder(&environment).unwrap().commit_from_memory(model).unwrap();
        let on = |device| MemoryInfo::new(device, 0, AllocatorType::Device, MemoryType::Default).unwrap();
        let mut elements = [1.0, 2.0];
        let mut read = |device| {
            let mut reader = Reader { session: &session, feeds: &[], lender: &NoLender, bytes_left: 100 };
            let value = value(&on(device), &mut elements);
            reader.output("y", Some(value)).map(|tensor| tensor.data.len()).map_err(|fault| fault.to_string())
        };
        assert_eq!(read(AllocationDevice::CPU), Ok(8));
        for device in [AllocationDevice::CUDA, AllocationDevice::CUDA_PINNED] {
            let fault = read(device).unwrap_err();
            assert!(fault.contains("the model's output `y` was left on its device"), "{fault}");
        }
    }
}
