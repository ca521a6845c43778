"""LitServe: an API for each model, with two workers each; JSON alone, which has the pixels of angle in base64."""
import argparse, base64

import litserve
import numpy

from models import Angle, Digits


class DigitsAPI(litserve.LitAPI):
    def setup(self, device):
        self.model = Digits()

    def decode_request(self, request):
        return request["x"]

    def predict(self, x):
        return self.model.answer(x)

    def encode_response(self, output):
        return output


class AngleAPI(litserve.LitAPI):
    def setup(self, device):
        self.model = Angle()

    def decode_request(self, request):
        return base64.b64decode(request["image"])

    def predict(self, x):
        return numpy.frombuffer(self.model.answer(x), numpy.float32)

    def encode_response(self, output):
        return {"scores": output.tolist()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int)
    apis = [DigitsAPI(api_path="/digits"), AngleAPI(api_path="/angle")]
    server = litserve.LitServer(apis, accelerator="cpu", devices=1, workers_per_device=2)
    server.run(host="127.0.0.1", port=parser.parse_args().port, generate_client_file=False, log_level="warning")
