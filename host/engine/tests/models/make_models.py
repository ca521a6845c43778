"""Makes the tiny models of the engine's tests. Run it in this folder with `onnx` and `onnxruntime` installed."""

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

OPSET = [helper.make_opsetid("", 21)]
F32, I64, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING


def value(name, kind, shape):
    return helper.make_tensor_value_info(name, kind, shape)


def save(name, nodes, inputs, outputs, initializers=(), metadata=None):
    graph = helper.make_graph(nodes, name, inputs, outputs, list(initializers))
    model = helper.make_model(graph, opset_imports=OPSET, ir_version=10, producer_name="make_models")
    if metadata:
        helper.set_model_props(model, metadata)
    with open(f"{name}.onnx", "wb") as file:
        file.write(model.SerializeToString())


# y = x + turns * 1, one turn of the loop at a time: practically endless for a large `turns`, at once over for zero.
body = helper.make_graph(
    [helper.make_node("Add", ["x_in", "one"], ["x_out"]), helper.make_node("Identity", ["go_in"], ["go_out"])],
    "body",
    [value("turn", I64, []), value("go_in", TensorProto.BOOL, []), value("x_in", F32, ["n"])],
    [value("go_out", TensorProto.BOOL, []), value("x_out", F32, ["n"])],
    [numpy_helper.from_array(np.float32(1), "one")],
)
save(
    "loop",
    [helper.make_node("Loop", ["turns", "", "x"], ["y"], body=body)],
    [value("turns", I64, []), value("x", F32, ["n"])],
    [value("y", F32, ["n"])],
)

# The same for every input, zeros included.
save(
    "endless",
    [helper.make_node("Loop", ["turns", "", "x"], ["y"], body=body)],
    [value("x", F32, ["n"])],
    [value("y", F32, ["n"])],
    [numpy_helper.from_array(np.int64(2**62), "turns")],
)

# One kernel that multiplies two matrices of n by n: at once over for zero, and minutes without a look at whether it should end.
save(
    "giant",
    [
        helper.make_node("Concat", ["n", "n"], ["shape"], axis=0),
        helper.make_node("ConstantOfShape", ["shape"], ["ones"], value=numpy_helper.from_array(np.ones(1, np.float32))),
        helper.make_node("MatMul", ["ones", "ones"], ["product"]),
        helper.make_node("ReduceSum", ["product"], ["y"], keepdims=0),
    ],
    [value("n", I64, [1])],
    [value("y", F32, [])],
)

# Strings in and out.
save(
    "strings",
    [helper.make_node("StringConcat", ["left", "right"], ["y"])],
    [value("left", STRING, ["n"]), value("right", STRING, ["n"])],
    [value("y", STRING, ["n"])],
)

# A scalar in and out.
save("scalar", [helper.make_node("Add", ["x", "x"], ["y"])], [value("x", I64, [])], [value("y", I64, [])])

# Symbols that several axes share, one in the batch's place and elsewhere, an axis without a name, and metadata.
save(
    "symbols",
    [helper.make_node("Add", ["ids", "mask"], ["sum"]), helper.make_node("Neg", ["state"], ["next"])],
    [value("ids", I64, ["batch", "seq"]), value("mask", I64, ["batch", "seq"]), value("state", F32, [2, "batch", None])],
    [value("sum", I64, ["batch", "seq"]), value("next", F32, [2, "batch", None])],
    metadata={"character": "a\nb", "author": "nobody"},
)

# Two axes whose only name says that nobody knows them.
save("unnamed", [helper.make_node("Neg", ["x"], ["y"])], [value("x", F32, ["?", "?"])], [value("y", F32, ["?", "?"])])

# Declares an output of a fixed shape that it does not have.
save("wrong_shape", [helper.make_node("NonZero", ["x"], ["y"])], [value("x", F32, ["n"])], [value("y", I64, [1, 5])])

# Every element type, handed through.
kinds = ["BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FLOAT16", "BFLOAT16", "FLOAT", "DOUBLE", "STRING"]
save(
    "types",
    [helper.make_node("Identity", [f"in_{kind}"], [f"out_{kind}"]) for kind in kinds],
    [value(f"in_{kind}", getattr(TensorProto, kind), ["n"]) for kind in kinds],
    [value(f"out_{kind}", getattr(TensorProto, kind), ["n"]) for kind in kinds],
)

# An output that is the input itself, and one that is a weight.
save(
    "passthrough",
    [helper.make_node("Neg", ["x"], ["y"])],
    [value("x", F32, ["n"])],
    [value("x", F32, ["n"]), value("w", F32, [3]), value("y", F32, ["n"])],
    [numpy_helper.from_array(np.array([1, 2, 3], np.float32), "w")],
)

# Fails for an index that is out of range; zeros are fine. Its table is also listed as an input.
save(
    "gather",
    [helper.make_node("Gather", ["table", "index"], ["y"])],
    [value("index", I64, ["n"]), value("table", F32, [4])],
    [value("y", F32, ["n"])],
    [numpy_helper.from_array(np.array([1, 2, 3, 4], np.float32), "table")],
)

# Each row's answer depends on all rows, as that of a dynamically quantised model does.
save(
    "neighbours",
    [
        helper.make_node("ReduceMax", ["x", "rows"], ["most"], keepdims=1),
        helper.make_node("Sub", ["x", "most"], ["y"]),
    ],
    [value("x", F32, ["n", 2])],
    [value("y", F32, ["n", 2])],
    [numpy_helper.from_array(np.array([0], np.int64), "rows")],
)

# The same by one scale for all rows, as a model whose activations are quantised as it runs.
save(
    "quantised",
    [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ],
    [value("x", F32, ["n", 2])],
    [value("y", F32, ["n", 2])],
)

# The same with an axis that could be padded.
save(
    "quantised_wide",
    [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ],
    [value("x", F32, ["n", "wide"])],
    [value("y", F32, ["n", "wide"])],
)

# Zeros do not suit it: a warm-up must fail.
save(
    "no_zeros",
    [helper.make_node("Reshape", ["x", "shape"], ["y"])],
    [value("x", F32, [6]), value("shape", I64, [2])],
    [value("y", F32, ["a", "b"])],
)

# A window of three, which a single element cannot hold.
save(
    "window",
    [helper.make_node("Conv", ["x", "w"], ["y"])],
    [value("x", F32, ["n", 1, "width"])],
    [value("y", F32, ["n", 1, "rest"])],
    [numpy_helper.from_array(np.ones((1, 1, 3), np.float32), "w")],
)

# The mean of each row's elements that a mask leaves, and each element's distance from it: what is masked does not count.
save(
    "masked_mean",
    [
        helper.make_node("Cast", ["mask"], ["kept"], to=F32),
        helper.make_node("Mul", ["x", "kept"], ["left"]),
        helper.make_node("ReduceSum", ["left", "elements"], ["sum"], keepdims=1),
        helper.make_node("ReduceSum", ["kept", "elements"], ["count"], keepdims=1),
        helper.make_node("Max", ["count", "least"], ["divisor"]),
        helper.make_node("Div", ["sum", "divisor"], ["mean"]),
        helper.make_node("Sub", ["x", "mean"], ["distance"]),
    ],
    [value("x", F32, ["n", "seq"]), value("mask", I64, ["n", "seq"])],
    [value("mean", F32, ["n", 1]), value("distance", F32, ["n", "seq"])],
    [numpy_helper.from_array(np.array([1], np.int64), "elements"), numpy_helper.from_array(np.array(1, np.float32), "least")],
)

# The mean of all of each row's elements: whatever is padded counts.
save(
    "plain_mean",
    [helper.make_node("ReduceMean", ["x", "elements"], ["mean"], keepdims=1), helper.make_node("Sub", ["x", "mean"], ["distance"])],
    [value("x", F32, ["n", "seq"])],
    [value("mean", F32, ["n", 1]), value("distance", F32, ["n", "seq"])],
    [numpy_helper.from_array(np.array([1], np.int64), "elements")],
)

# Takes nothing.
save("no_inputs", [helper.make_node("RandomUniform", [], ["y"], shape=[2], seed=1.0)], [], [value("y", F32, [2])])

# What the engine refuses: a sequence, an optional, a type without a counterpart, an input of unknown rank.
save(
    "sequence",
    [helper.make_node("SequenceConstruct", ["x"], ["y"])],
    [value("x", F32, ["n"])],
    [helper.make_tensor_sequence_value_info("y", F32, ["n"])],
)
optional = helper.make_optional_type_proto(helper.make_tensor_type_proto(F32, ["n"]))
save(
    "optional",
    [helper.make_node("OptionalGetElement", ["x"], ["y"])],
    [helper.make_value_info("x", optional)],
    [value("y", F32, ["n"])],
)
save("float8", [helper.make_node("Cast", ["x"], ["y"], to=F32)], [value("x", TensorProto.FLOAT8E4M3FN, ["n"])], [value("y", F32, ["n"])])
save("no_rank", [helper.make_node("Neg", ["x"], ["y"])], [value("x", F32, None)], [value("y", F32, None)])

# Asks for a file that lies where the tests run.
weight = numpy_helper.from_array(np.zeros(64, np.uint8), "w")
weight.ClearField("raw_data")
weight.data_location = TensorProto.EXTERNAL
weight.external_data.add(key="location", value="Cargo.toml")
weight.external_data.add(key="length", value="64")
save(
    "external",
    [helper.make_node("Gather", ["w", "index"], ["y"])],
    [value("index", I64, ["n"])],
    [value("y", TensorProto.UINT8, ["n"])],
    [weight],
)

# A good model, but in the runtime's own format.
options = onnxruntime.SessionOptions()
options.optimized_model_filepath = "scalar.ort"
options.add_session_config_entry("session.save_model_format", "ORT")
onnxruntime.InferenceSession("scalar.onnx", options)
