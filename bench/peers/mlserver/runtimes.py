"""MLServer: a runtime for each model, tensors in and out by the Open Inference Protocol, in JSON."""
import mlserver
import numpy
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from models import Angle, Digits


class DigitsRuntime(mlserver.MLModel):
    async def load(self):
        self.model = Digits()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        pixels = NumpyCodec.decode_input(payload.inputs[0]).astype(numpy.float32, copy=False)
        labels, probabilities = self.model.run(pixels)
        outputs = [NumpyCodec.encode_output("label", labels), NumpyCodec.encode_output("probabilities", probabilities)]
        return InferenceResponse(model_name=self.name, outputs=outputs)


class AngleRuntime(mlserver.MLModel):
    async def load(self):
        self.model = Angle()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        pixels = NumpyCodec.decode_input(payload.inputs[0]).astype(numpy.float32, copy=False)
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("scores", self.model.run(pixels))])
