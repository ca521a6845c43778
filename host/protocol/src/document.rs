//! What the JSON of an inference request says: its members, in any order, against the model's signature. Elements of
//! tensors are read by `json`; of HTTP and of what stands behind the JSON this file knows nothing.

use std::time::Duration;

use bytes::Bytes;
use jiter::{Jiter, NumberInt, Peek};
use sandmill_domain::{Dtype, Lender, Mismatch, Priority, Signature, TensorSpec, Wish};

use crate::json::{self, Expected};
use crate::refusal::{Refusal, excerpt, invalid, unsupported};
use crate::wish;

/// The longest id of a request, in bytes.
const ID_BYTES_MAX: usize = 1024;

/// The most axes that a shape may list.
const AXES_MAX: usize = 64;

/// The members of a request that matter.
#[derive(Default)]
pub(crate) struct Document<'s> {
    pub(crate) id: Option<String>,
    pub(crate) inputs: Vec<Input<'s>>,
    /// Empty for all.
    pub(crate) outputs: Vec<Asked>,
    /// Whether outputs are wanted as binary data unless they say otherwise.
    pub(crate) binary_output: bool,
    pub(crate) wish: Wish,
}

/// An input whose datatype and shape fit `spec`.
pub(crate) struct Input<'s> {
    pub(crate) spec: &'s TensorSpec,
    pub(crate) shape: Vec<i64>,
    /// The product of `shape`.
    pub(crate) count: usize,
    pub(crate) source: Source,
}

/// Where the elements of an input are.
pub(crate) enum Source {
    /// Decoded from the JSON.
    Decoded(Bytes),
    /// Behind the JSON, so many bytes.
    Attached(usize),
}

/// An output as the request names it.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    /// Its place in the signature.
    pub(crate) position: usize,
    pub(crate) binary: Option<bool>,
}

/// The parameters that are known; the protocol has three objects of them, with other names in each.
#[derive(Default)]
struct Parameters {
    binary_data_size: Option<usize>,
    binary_data: Option<bool>,
    binary_data_output: Option<bool>,
    priority: Option<Option<Priority>>,
    timeout: Option<Option<Duration>>,
}

/// An input while its members come in.
#[derive(Default)]
struct Draft<'j, 's> {
    spec: Option<&'s TensorSpec>,
    dtype: Option<Dtype>,
    shape: Option<Vec<i64>>,
    parameters: Option<Option<Parameters>>,
    data: Option<Data<'j>>,
}

/// The `data` of an input.
enum Data<'j> {
    Decoded(Bytes),
    /// The JSON of it: it came before the shape.
    Waiting(&'j [u8]),
}

/// Reads the JSON of a request.
///
/// # Errors
/// The first thing that is malformed or does not fit.
pub(crate) fn read<'s>(json: &[u8], signature: &'s Signature, lender: &dyn Lender) -> Result<Document<'s>, Refusal> {
    let mut reader = Reader { json, jiter: Jiter::new(json).with_allow_inf_nan(), signature, lender };
    let document = reader.document()?;
    reader.jiter.finish()?;
    Ok(document)
}

struct Reader<'j, 's, 'l> {
    json: &'j [u8],
    jiter: Jiter<'j>,
    signature: &'s Signature,
    lender: &'l dyn Lender,
}

impl<'j, 's> Reader<'j, 's, '_> {
    fn document(&mut self) -> Result<Document<'s>, Refusal> {
        let (mut id, mut inputs, mut outputs, mut parameters) = (None, None, None, None);
        let mut key = self.jiter.next_object()?;
        while let Some(name) = key {
            match name {
                "id" => put(&mut id, "id", self.optional(Self::id)?)?,
                "inputs" => put(&mut inputs, "inputs", self.inputs()?)?,
                "outputs" => put(&mut outputs, "outputs", self.optional(Self::outputs)?)?,
                "parameters" => put(&mut parameters, "parameters", self.optional(Self::parameters)?)?,
                _ => self.jiter.next_skip()?,
            }
            key = self.jiter.next_key()?;
        }
        let parameters = parameters.flatten().unwrap_or_default();
        Ok(Document {
            id: id.flatten(),
            inputs: inputs.ok_or_else(|| invalid("the request has no `inputs`"))?,
            outputs: outputs.flatten().unwrap_or_default(),
            binary_output: parameters.binary_data_output.unwrap_or(false),
            wish: Wish { priority: parameters.priority.flatten(), timeout: parameters.timeout.flatten() },
        })
    }

    /// `null` counts as absent: some clients write all members that there are.
    fn optional<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Refusal>) -> Result<Option<T>, Refusal> {
        if self.jiter.peek()? == Peek::Null {
            self.jiter.known_null()?;
            return Ok(None);
        }
        read(self).map(Some)
    }

    fn id(&mut self) -> Result<String, Refusal> {
        let id = self.jiter.next_str()?;
        if id.len() > ID_BYTES_MAX {
            return Err(invalid(format!("`id` is longer than {ID_BYTES_MAX} bytes")));
        }
        Ok(id.to_owned())
    }

    /// No more than the signature has: none may be unknown and none given twice.
    fn inputs(&mut self) -> Result<Vec<Input<'s>>, Refusal> {
        let mut inputs = Vec::with_capacity(self.signature.inputs.len());
        let mut next = self.jiter.next_array()?;
        while next.is_some() {
            let input = self.input(&inputs)?;
            inputs.push(input);
            next = self.jiter.array_step()?;
        }
        Ok(inputs)
    }

    fn input(&mut self, earlier: &[Input<'s>]) -> Result<Input<'s>, Refusal> {
        let start = self.jiter.current_index();
        let mut draft = Draft::default();
        let mut key = self.jiter.next_object()?;
        while let Some(name) = key {
            match name {
                "name" => put(&mut draft.spec, "name", self.spec(earlier)?)?,
                "datatype" => {
                    let dtype = self.dtype();
                    put(&mut draft.dtype, "datatype", self.naming(dtype, start)?)?;
                }
                "shape" => {
                    let shape = self.shape();
                    put(&mut draft.shape, "shape", self.naming(shape, start)?)?;
                }
                "parameters" => {
                    let parameters = self.optional(Self::parameters);
                    put(&mut draft.parameters, "parameters", self.naming(parameters, start)?)?;
                }
                "data" => {
                    let data = match self.data(&draft) {
                        Err(malformed @ Refusal::Malformed(_)) => self.naming(Err(malformed), start),
                        read => read,
                    };
                    put(&mut draft.data, "data", data?)?;
                }
                _ => self.jiter.next_skip()?,
            }
            key = self.jiter.next_key()?;
        }
        self.complete(draft, earlier.len())
    }

    /// A refusal of the input that begins at `start` says which tensor it is about, wherever among its members the name is.
    fn naming<T>(&self, member: Result<T, Refusal>, start: usize) -> Result<T, Refusal> {
        member.map_err(|refusal| match self.name_of(start) {
            Some(name) => refusal.of_tensor(&name),
            None => refusal,
        })
    }

    fn name_of(&self, start: usize) -> Option<String> {
        let mut ahead = Jiter::new(self.json.get(start..)?).with_allow_inf_nan();
        let mut key = ahead.next_object().ok()?;
        while let Some(name) = key {
            if name == "name" {
                return ahead.next_str().ok().map(excerpt);
            }
            ahead.next_skip().ok()?;
            key = ahead.next_key().ok()?;
        }
        None
    }

    fn spec(&mut self, earlier: &[Input<'_>]) -> Result<&'s TensorSpec, Refusal> {
        let spec = self.signature.input(self.jiter.next_str()?)?;
        if earlier.iter().any(|input| input.spec.name == spec.name) {
            return Err(Mismatch::Twice { name: spec.name.clone() }.into());
        }
        Ok(spec)
    }

    fn dtype(&mut self) -> Result<Dtype, Refusal> {
        let name = self.jiter.next_str()?;
        Dtype::from_name(name).ok_or_else(|| invalid(format!("there is no datatype `{}`", excerpt(name))))
    }

    fn shape(&mut self) -> Result<Vec<i64>, Refusal> {
        let mut shape = Vec::new();
        let mut next = self.jiter.next_array()?;
        while let Some(peek) = next {
            let NumberInt::Int(size) = self.jiter.known_int(peek)? else {
                return Err(invalid("a shape's axis is too large"));
            };
            if shape.len() == AXES_MAX {
                return Err(invalid(format!("a shape has more than {AXES_MAX} axes")));
            }
            shape.push(size);
            next = self.jiter.array_step()?;
        }
        Ok(shape)
    }

    /// Decodes at once if name, datatype and shape are known, the usual order; else only finds where it ends.
    fn data(&mut self, draft: &Draft<'_, '_>) -> Result<Data<'j>, Refusal> {
        if let (Some(spec), Some(dtype), Some(shape)) = (draft.spec, draft.dtype, &draft.shape) {
            let count = spec.check_shape(dtype, shape)?;
            let expected = Expected { spec, shape, count, json_bytes: self.json.len() - self.jiter.current_index() };
            return Ok(Data::Decoded(json::read(&mut self.jiter, &expected, self.lender)?));
        }
        self.skip().map(Data::Waiting)
    }

    /// The next value's text, checked for its grammar alone.
    fn skip(&mut self) -> Result<&'j [u8], Refusal> {
        let peek = self.jiter.peek()?;
        let start = self.jiter.current_index();
        self.jiter.known_skip(peek)?;
        Ok(self.jiter.slice_to_current(start))
    }

    fn complete(&self, draft: Draft<'_, 's>, position: usize) -> Result<Input<'s>, Refusal> {
        let spec = draft.spec.ok_or_else(|| invalid(format!("input {position} has no `name`")))?;
        let lacks = |member| invalid(format!("tensor `{}` has no {member}", spec.name));
        let shape = draft.shape.ok_or_else(|| lacks("`shape`"))?;
        let count = spec.check_shape(draft.dtype.ok_or_else(|| lacks("`datatype`"))?, &shape)?;
        let attached = draft.parameters.flatten().and_then(|all| all.binary_data_size);
        let source = match (draft.data, attached) {
            (Some(Data::Decoded(bytes)), None) => Source::Decoded(bytes),
            (Some(Data::Waiting(json)), None) => {
                let expected = Expected { spec, shape: &shape, count, json_bytes: json.len() };
                Source::Decoded(json::read(&mut Jiter::new(json).with_allow_inf_nan(), &expected, self.lender)?)
            }
            (None, Some(bytes)) => Source::Attached(bytes),
            (Some(_), Some(_)) => return Err(invalid(format!("tensor `{}` has both `data` and `binary_data_size`", spec.name))),
            (None, None) => return Err(lacks("`data`")),
        };
        Ok(Input { spec, shape, count, source })
    }

    /// No more than the signature has, as with the inputs.
    fn outputs(&mut self) -> Result<Vec<Asked>, Refusal> {
        let mut outputs: Vec<Asked> = Vec::with_capacity(self.signature.outputs.len());
        let mut next = self.jiter.next_array()?;
        while next.is_some() {
            let asked = self.output()?;
            if outputs.iter().any(|earlier| earlier.position == asked.position) {
                return Err(invalid(format!("output `{}` is asked for twice", self.signature.outputs[asked.position].name)));
            }
            outputs.push(asked);
            next = self.jiter.array_step()?;
        }
        Ok(outputs)
    }

    fn output(&mut self) -> Result<Asked, Refusal> {
        let (mut position, mut parameters) = (None, None);
        let mut key = self.jiter.next_object()?;
        while let Some(name) = key {
            match name {
                "name" => put(&mut position, "name", self.position()?)?,
                "parameters" => put(&mut parameters, "parameters", self.optional(Self::parameters)?)?,
                _ => self.jiter.next_skip()?,
            }
            key = self.jiter.next_key()?;
        }
        let position = position.ok_or_else(|| invalid("an output has no `name`"))?;
        Ok(Asked { position, binary: parameters.flatten().and_then(|all| all.binary_data) })
    }

    fn position(&mut self) -> Result<usize, Refusal> {
        let outputs = &self.signature.outputs;
        let name = self.jiter.next_str()?;
        outputs.iter().position(|spec| spec.name == name).ok_or_else(|| {
            let there_are = outputs.iter().map(|spec| format!("`{}`", spec.name)).collect::<Vec<_>>().join(", ");
            invalid(format!("output `{}`: the model has no such output; it gives {there_are}", excerpt(name)))
        })
    }

    fn parameters(&mut self) -> Result<Parameters, Refusal> {
        let mut parameters = Parameters::default();
        let mut key = self.jiter.next_object()?;
        while let Some(name) = key {
            match name {
                "binary_data_size" => put(&mut parameters.binary_data_size, "binary_data_size", self.size()?)?,
                "binary_data" => put(&mut parameters.binary_data, "binary_data", self.jiter.next_bool()?)?,
                "binary_data_output" => {
                    put(&mut parameters.binary_data_output, "binary_data_output", self.jiter.next_bool()?)?;
                }
                "priority" => put(&mut parameters.priority, "priority", wish::priority(self.whole()?)?)?,
                "timeout" => put(&mut parameters.timeout, "timeout", wish::timeout(self.whole()?)?)?,
                "shared_memory_region" => self.refuse_unless_void("shared_memory_region")?,
                "classification" => self.refuse_unless_void("classification")?,
                "sequence_id" => self.refuse_unless_void("sequence_id")?,
                _ => self.jiter.next_skip()?,
            }
            key = self.jiter.next_key()?;
        }
        Ok(parameters)
    }

    fn size(&mut self) -> Result<usize, Refusal> {
        match self.jiter.next_int()? {
            NumberInt::Int(size) => usize::try_from(size).ok(),
            NumberInt::BigInt(_) => None,
        }
        .ok_or_else(|| invalid("`binary_data_size` must be a number of bytes"))
    }

    /// The next value, if it is a whole number that is not negative; `null` is none at all, which the protocol writes as 0.
    fn whole(&mut self) -> Result<Option<u64>, Refusal> {
        let text = self.skip()?;
        if text == b"null" {
            return Ok(Some(0));
        }
        Ok(str::from_utf8(text).ok().and_then(|text| text.parse().ok()))
    }

    /// These change what is computed or where it lies, so to ignore them would be a wrong answer; 0 and "" mean none.
    fn refuse_unless_void(&mut self, parameter: &str) -> Result<(), Refusal> {
        match self.skip()? {
            b"0" | b"\"\"" | b"null" => Ok(()),
            _ => Err(unsupported(format!("parameter `{parameter}` is not supported"))),
        }
    }
}

/// Fills a member's place, which a second member of that name finds taken.
fn put<T>(place: &mut Option<T>, member: &str, value: T) -> Result<(), Refusal> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(invalid(format!("member `{member}` is given twice"))),
    }
}
