#!/usr/bin/env python3
"""Asks a server that serves examples/digits with Triton's own HTTP client: triton_client.py ADDRESS

Health, metadata, the right answer, with JSON and with binary tensors, and the model repository. Silent and 0 when all is well.
"""
import json, pathlib, sys
import numpy
import tritonclient.http as triton

SAMPLE = pathlib.Path(__file__).parents[2] / "examples" / "digits" / "sample.json"
MODEL = "digits"
# Binary in, binary out; whether each output is asked for by name, or none is and all come as `binary_data_output` says.
FORMS = [(binary_in, binary_out, named) for binary_in in (False, True) for binary_out in (False, True) for named in (False, True)
         if named or binary_out]


def expect(what, given, expected):
    if given != expected:
        sys.exit(f"{what}: {given!r}, but {expected!r} was expected")


def check_metadata(client):
    expect("live", client.is_server_live(), True)
    expect("ready", client.is_server_ready(), True)
    server = client.get_server_metadata()
    for key, kind in (("name", str), ("version", str), ("extensions", list)):
        expect(f"server metadata: {key}", type(server.get(key)), kind)
    model = client.get_model_metadata(MODEL)
    expect("model metadata: name", model["name"], MODEL)
    expect("model metadata: inputs", model["inputs"], [{"name": "X", "datatype": "FP32", "shape": [-1, 64]}])
    expect("model metadata: outputs", model["outputs"], [{"name": "label", "datatype": "INT64", "shape": [-1]},
                                                         {"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]}])
    expect("model ready", client.is_model_ready(MODEL), True)
    for version in model["versions"]:
        expect(f"version {version} ready", client.is_model_ready(MODEL, version), True)
    expect("unknown model ready", client.is_model_ready("no-such-model"), False)


def check_answer(client, pixels, binary_in, binary_out, named):
    form = f"binary in: {binary_in}, binary out: {binary_out}, outputs named: {named}"
    tensor = triton.InferInput("X", list(pixels.shape), "FP32")
    tensor.set_data_from_numpy(pixels, binary_data=binary_in)
    outputs = [triton.InferRequestedOutput(name, binary_data=binary_out) for name in ("label", "probabilities")]
    result = client.infer(MODEL, [tensor], outputs=outputs if named else None, request_id="a-request")
    expect(f"id ({form})", result.get_response()["id"], "a-request")
    expect(f"label ({form})", result.as_numpy("label").tolist(), [2] * len(pixels))
    probabilities = result.as_numpy("probabilities")
    expect(f"shape ({form})", probabilities.shape, (len(pixels), 10))
    if not numpy.allclose(probabilities[:, 2], 0.99999869, rtol=0, atol=1e-5):
        sys.exit(f"probabilities ({form}): {probabilities.tolist()}")


def check_refusal(client):
    tensor = triton.InferInput("X", [1, 63], "FP32")
    tensor.set_data_from_numpy(numpy.zeros((1, 63), numpy.float32))
    try:
        client.infer(MODEL, [tensor])
    except triton.InferenceServerException as error:
        expect("status of a wrong shape", error.status(), "400")
        expect("the refusal names the tensor", "X" in error.message(), True)
    else:
        sys.exit("a tensor of the wrong shape was taken")


def check_repository(client, pixels):
    entry = {"name": MODEL, "version": "1", "state": "READY", "reason": ""}
    expect("the repository's index", client.get_model_repository_index(), [entry])
    client.unload_model(MODEL)
    expect("the state of an unloaded model", client.get_model_repository_index()[0]["state"], "UNAVAILABLE")
    client.load_model(MODEL)
    expect("the index once it is loaded again", client.get_model_repository_index(), [entry])
    client.unload_model(MODEL, unload_dependents=True)
    check_answer(client, pixels, True, True, True)
    try:
        client.load_model(MODEL, config="{}", files={"file:1/model.onnx": b"x"})
    except triton.InferenceServerException as error:
        expect("status of another configuration", error.status(), "501")
    else:
        sys.exit("another configuration was taken")


def main():
    address = sys.argv[1].removeprefix("http://").rstrip("/")
    pixels = numpy.array([json.loads(SAMPLE.read_text())["x"]], numpy.float32)
    with triton.InferenceServerClient(address) as client:
        check_metadata(client)
        for form in FORMS:
            for rows in (1, 3):
                check_answer(client, pixels.repeat(rows, axis=0), *form)
        check_refusal(client)
        check_repository(client, pixels)


if __name__ == "__main__":
    main()
