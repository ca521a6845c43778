"""Triton's Python backend, angle: one run for each request."""
import triton_python_backend_utils as triton

from models import Angle


class TritonPythonModel:
    def initialize(self, _):
        self.model = Angle()

    def execute(self, requests):
        images = (triton.get_input_tensor_by_name(request, "x").as_numpy() for request in requests)
        return [triton.InferenceResponse([triton.Tensor("scores", self.model.run(image))]) for image in images]
