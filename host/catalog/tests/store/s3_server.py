#!/usr/bin/env python3
"""An S3-compatible server on a port of its own choosing, which it prints; with one bucket. Ends with its standard input.

One request at a time: it looks whether an object is there and then writes it, which two threads could do at once.
"""
import os, sys, threading

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.test import Client


class Quiet(WSGIRequestHandler):
    def log_request(self, *_):
        pass


def end_with_input():
    sys.stdin.read()
    os._exit(0)


app = DomainDispatcherApplication(create_backend_app)
assert Client(app).put("/bucket", headers={"Host": "s3.amazonaws.com"}).status_code == 200
server = make_server("127.0.0.1", 0, app, threaded=False, request_handler=Quiet)
threading.Thread(target=end_with_input, daemon=True).start()
print(server.port, flush=True)
server.serve_forever()
