"""Mosec: each model in two processes of its own, behind Mosec's server in Rust; JSON for digits, bytes as they are for angle."""
import mosec

from models import Angle, Digits


class DigitsWorker(mosec.Worker):
    def __init__(self):
        super().__init__()
        self.model = Digits()

    def forward(self, data):
        return self.model.answer(data["x"])


class AngleWorker(mosec.Worker):
    def __init__(self):
        super().__init__()
        self.model = Angle()

    def deserialize(self, data):
        return data

    def serialize(self, data):
        return data

    def forward(self, data):
        return self.model.answer(data)


if __name__ == "__main__":
    server = mosec.Server()
    server.register_runtime({"/digits": [mosec.Runtime(DigitsWorker, num=2)], "/angle": [mosec.Runtime(AngleWorker, num=2)]})
    server.run()
