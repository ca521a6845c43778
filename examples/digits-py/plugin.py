"""The answer of `digits` in Python: from `label` and `probabilities` to {"label": …, "p": […], "language": …}.

Knows shapes and JSON, nothing of digits. `wit_world` is made from the contract when the component is built.
"""
import json
import math
import struct

from componentize_py_types import Err
from wit_world.imports.types import Dtype, Error, ErrorKind, Header, Response


def internal(message):
    """An error of the contract: what is raised of this kind is the plugin's answer, anything else ends the instance."""
    return Err(Error(ErrorKind.INTERNAL, message))


def elements(tensors, name, dtype, code):
    """The elements of the tensor of this name; `code` is struct's for one of them."""
    tensor = next((tensor for tensor in tensors if tensor.name == name), None)
    if tensor is None:
        raise internal(f"there is no tensor `{name}` among {[tensor.name for tensor in tensors]}")
    if tensor.dtype is not dtype:
        raise internal(f"`{name}` is {tensor.dtype.name.lower()}, not {dtype.name.lower()}")
    return [element for (element,) in struct.iter_unpack("<" + code, tensor.data)]


class Postprocess:
    def postprocess(self, request, outputs):
        """From `label`, `[1] i64`, and `probabilities`, `[1, 10] f32`."""
        labels = elements(outputs, "label", Dtype.INT64, "q")
        probabilities = elements(outputs, "probabilities", Dtype.FP32, "f")
        if not labels:
            raise internal("the model gave no label")
        # JSON has no words for infinities and NaN; like the other examples, this one says null.
        p = [number if math.isfinite(number) else None for number in probabilities]
        body = json.dumps({"label": labels[0], "p": p, "language": "python"}, separators=(",", ":"))
        return Response(200, [Header("content-type", b"application/json")], body.encode())
