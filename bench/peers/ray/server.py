"""Ray Serve: two replicas with both models, behind its HTTP proxy; no dashboard, no access log, no usage reports."""
import argparse, signal

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from models import Angle, Digits

QUIET = {"enable_access_log": False, "log_level": "WARNING"}


@serve.deployment(num_replicas=2, ray_actor_options={"num_cpus": 1}, max_ongoing_requests=16, logging_config=QUIET)
class Models:
    def __init__(self):
        self.digits, self.angle = Digits(), Angle()

    async def __call__(self, request: Request):
        if request.url.path == "/digits":
            return JSONResponse(self.digits.answer((await request.json())["x"]))
        return Response(self.angle.answer(await request.body()), media_type="application/octet-stream")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int)
    # As many as there are replicas, however many there are on this machine.
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100 * 2**20, logging_level="warning")
    serve.start(http_options={"host": "127.0.0.1", "port": parser.parse_args().port}, logging_config=QUIET)
    serve.run(Models.bind(), route_prefix="/")
    signal.pause()
