"""Triton's Python backend, digits: requests that Triton batched are run at once."""
import numpy
import triton_python_backend_utils as triton

from models import Digits


class TritonPythonModel:
    def initialize(self, _):
        self.model = Digits()

    def execute(self, requests):
        rows = [triton.get_input_tensor_by_name(request, "X").as_numpy() for request in requests]
        labels, probabilities = self.model.run(numpy.concatenate(rows))
        responses, end = [], 0
        for count in map(len, rows):
            start, end = end, end + count
            responses.append(triton.InferenceResponse([triton.Tensor("label", labels[start:end].reshape(-1, 1)),
                                                       triton.Tensor("probabilities", probabilities[start:end])]))
        return responses
