"""Is it spam? {"text": "…"} to three figures for the model, and the model's score to {"spam": …, "score": …}.

`wit_world` is made from the contract when the component is built; what needs no host is in `spam.py`.
"""
from componentize_py_types import Err
from wit_world.imports.types import Dtype, Error, ErrorKind, Header, Response, Tensor
from wit_world.exports.preprocess import Prepared_Tensors

import spam


class Preprocess:
    def preprocess(self, request):
        """To `features`, `[1, 3] f32`."""
        try:
            text = spam.read(request.body)
        except ValueError as error:
            # An error of the contract: what is raised of this kind is the plugin's answer, anything else ends the instance.
            raise Err(Error(ErrorKind.INVALID_INPUT, str(error)))
        return Prepared_Tensors([Tensor("features", Dtype.FP32, [1, 3], spam.features(text))])


class Postprocess:
    def postprocess(self, request, outputs):
        """From `score`, `[1, 1] f32`."""
        score = next((tensor for tensor in outputs if tensor.name == "score"), None)
        if score is None:
            raise Err(Error(ErrorKind.INTERNAL, "the model gave no score"))
        return Response(200, [Header("content-type", b"application/json")], spam.answer(score.data))
