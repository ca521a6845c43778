"""Makes the model of the templates: how much a text is like spam, by three figures. Run it in this folder with `onnx` installed.

Takes `features`, [n, 3] f32: the share of capitals among the letters, exclamation marks, links. Gives `score`, [n, 1] f32, from 0
to 1. The weights are made up.
"""
import numpy as np
from onnx import TensorProto, helper, numpy_helper

weights = numpy_helper.from_array(np.float32([[4.0], [0.5], [1.5]]), "weights")
bias = numpy_helper.from_array(np.float32([-2.5]), "bias")
graph = helper.make_graph(
    [helper.make_node("Gemm", ["features", "weights", "bias"], ["sum"]), helper.make_node("Sigmoid", ["sum"], ["score"])],
    "spam",
    [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 3])],
    [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n", 1])],
    [weights, bias],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="sandmill")
with open("common/model.onnx", "wb") as file:
    file.write(model.SerializeToString())
