"""The two models that every peer serves, opened alike: ONNX Runtime, one thread, no spinning while it waits."""
import pathlib

import numpy
import onnxruntime

EXAMPLES = pathlib.Path(__file__).resolve().parents[3] / "examples"


def session(example):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(EXAMPLES / example / "model.onnx", options, providers=["CPUExecutionProvider"])


class Digits:
    def __init__(self):
        self.session = session("digits")

    def run(self, pixels):
        """[batch, 64] f32 → labels [batch] i64, probabilities [batch, 10] f32."""
        return self.session.run(["label", "probabilities"], {"X": pixels})

    def answer(self, x):
        """64 numbers → what the plugin of examples/digits answers."""
        labels, probabilities = self.run(numpy.asarray(x, numpy.float32).reshape(1, 64))
        return {"label": int(labels[0]), "p": probabilities[0].tolist()}


class Angle:
    def __init__(self):
        self.session = session("angle")
        self.input = self.session.get_inputs()[0].name

    def run(self, pixels):
        """[batch, 3, 48, 192] f32 → scores [batch, 2] f32."""
        return self.session.run(None, {self.input: pixels})[0]

    def answer(self, body):
        """Raw f32 pixels → two raw f32 scores."""
        return self.run(numpy.frombuffer(body, numpy.float32).reshape(1, 3, 48, 192)).tobytes()
