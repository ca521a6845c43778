"""The servers that Sandmill is measured beside: what each needs, how it is set up, started, asked and stopped.

An environment of each is made once, in .sandmill/peers/NAME, of its requirements.txt. Python's standard library only.
"""
import array, base64, contextlib, dataclasses, fcntl, hashlib, http.client, json, os, pathlib, platform, shutil, signal, socket, struct
import subprocess, sys, sysconfig, tempfile, time
from typing import Callable

import serving
from serving import PATIENCE_S, ROOT, Failed, Refused, Request, Server, angle_request, digits_request, oip_request

PEERS = ROOT / "bench" / "peers"
VENVS = ROOT / ".sandmill" / "peers"


@dataclasses.dataclass
class Peer:
    title: str
    # Packages whose versions are told.
    packages: tuple
    # (the environment's folder, a free port) → the command.
    command: Callable
    # () → the requests by the model's name.
    requests: Callable
    # (the environment's folder, the port) → variables.
    env: Callable = lambda venv, port: {}
    # (the environment's folder): what is left to do when it is new.
    prepare: Callable = lambda venv: None


def json_and_bytes():
    return {"digits": digits_request("/digits"), "angle": angle_request("/angle")}


def binary_tensors():
    """By the Open Inference Protocol, binary both ways."""
    def check(outputs):
        serving.check_angle(*struct.unpack("<2f", outputs["scores"]))
    image = angle_request().body
    return {"digits": oip_request(), "angle": serving.binary_request("/v2/models/angle/infer", "x", [1, 3, 48, 192], image, check)}


def json_and_base64():
    def check(_, body):
        serving.check_angle(*json.loads(body)["scores"])
    body = json.dumps({"image": base64.b64encode(angle_request().body).decode()}).encode()
    return {"digits": digits_request("/digits"), "angle": Request("/angle", body, {"Content-Type": "application/json"}, check)}


def json_tensors():
    """By the Open Inference Protocol, all numbers in JSON."""
    def request(model, name, shape, numbers, check_outputs):
        def check(_, body):
            check_outputs({output["name"]: output["data"] for output in json.loads(body)["outputs"]})
        body = json.dumps({"inputs": [{"name": name, "datatype": "FP32", "shape": shape, "data": list(numbers)}]}).encode()
        return Request(f"/v2/models/{model}/infer", body, {"Content-Type": "application/json"}, check)
    def digit(outputs):
        serving.check_digit(outputs["label"][0], outputs["probabilities"])
    def angle(outputs):
        serving.check_angle(*outputs["scores"])
    pixels, image = json.loads(digits_request().body)["x"], array.array("f", angle_request().body)
    return {"digits": request("digits", "X", [1, 64], pixels, digit), "angle": request("angle", "x", [1, 3, 48, 192], image, angle)}


def site(venv):
    return next(venv.glob("lib/python3.*/site-packages"))


def prepare_triton(venv):
    """Triton looks for the part of its backend that runs in Python beside the rest, where the wheel has one for each version."""
    triton = site(venv) / "pytriton" / "tritonserver"
    version = ".".join(platform.python_version_tuple()[:2])
    stub = triton / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.exists():
        raise Failed(f"the wheel has no Python backend for Python {version}")
    shutil.copy(stub, triton / "backends" / "python")


def triton_command(venv, port):
    triton = site(venv) / "pytriton" / "tritonserver"
    return [triton / "bin" / "tritonserver", f"--model-repository={PEERS / 'triton' / 'models'}",
            f"--backend-directory={triton / 'backends'}", "--http-address=127.0.0.1", f"--http-port={port}", "--allow-grpc=false",
            "--allow-metrics=false"]


def triton_env(venv, _):
    # Its libraries, and Python's own, which the backend loads.
    libraries = [str(site(venv) / "nvidia_pytriton.libs"), sysconfig.get_config_var("LIBDIR"), os.environ.get("LD_LIBRARY_PATH")]
    return {"LD_LIBRARY_PATH": ":".join(filter(None, libraries))}


def mlserver_env(_, port):
    # It listens for gRPC and for metrics whatever it is told, so these need ports as well.
    ports = {"MLSERVER_HTTP_PORT": port, "MLSERVER_GRPC_PORT": free_port(), "MLSERVER_METRICS_PORT": free_port()}
    settings = {"MLSERVER_HOST": "127.0.0.1", "MLSERVER_PARALLEL_WORKERS": 2, "MLSERVER_DEBUG": "false", "PYTHONPATH": PEERS / "mlserver"}
    return {name: str(value) for name, value in (ports | settings).items()}


# A peer is measured under these names; each has a folder of its own in bench/peers.
KNOWN = {
    "fastapi": Peer(
        "FastAPI + Gunicorn", ("fastapi", "gunicorn", "uvicorn", "onnxruntime"),
        lambda venv, port: ["gunicorn", "app:app", "--chdir", PEERS / "fastapi", "--worker-class", "uvicorn.workers.UvicornWorker",
                               "--workers", "2", "--bind", f"127.0.0.1:{port}", "--log-level", "warning"],
        json_and_bytes),
    "triton": Peer("Triton, Python backend", ("nvidia-pytriton", "onnxruntime"), triton_command, binary_tensors, env=triton_env,
                   prepare=prepare_triton),
    "mosec": Peer(
        "Mosec", ("mosec", "onnxruntime"),
        lambda venv, port: ["python", PEERS / "mosec" / "server.py", "--address", "127.0.0.1", "--port", port, "--log-level", "warning",
                               "--timeout", "10000"],
        json_and_bytes),
    "litserve": Peer("LitServe", ("litserve", "fastapi", "onnxruntime"),
                     lambda venv, port: ["python", PEERS / "litserve" / "server.py", "--port", port], json_and_base64),
    "mlserver": Peer("MLServer", ("mlserver", "onnxruntime"), lambda venv, port: ["mlserver", "start", PEERS / "mlserver" / "models"],
                     json_tensors, env=mlserver_env),
    "ray": Peer("Ray Serve", ("ray", "onnxruntime"), lambda venv, port: ["python", PEERS / "ray" / "server.py", "--port", port],
                json_and_bytes, env=lambda venv, port: {"RAY_USAGE_STATS_ENABLED": "0", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}),
}
DEFAULT = ["fastapi", "mosec", "triton"]


def stamp(name):
    """What an environment was made of, and where: its scripts have its path in them."""
    requirements = (PEERS / name / "requirements.txt").read_bytes()
    return f"{hashlib.sha256(requirements).hexdigest()} {sys.version} {VENVS / name}\n"


def environment(name):
    """The folder of a peer's virtual environment, made if it is not there, or not whole: its stamp is written last."""
    venv = VENVS / name
    VENVS.mkdir(parents=True, exist_ok=True)
    with open(VENVS / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = venv / "stamp"
        if made.is_file() and made.read_text() == stamp(name):
            return venv
        print(f"making {venv}", file=sys.stderr)
        shutil.rmtree(venv, ignore_errors=True)
        if subprocess.run([sys.executable, "-m", "venv", venv], stdout=sys.stderr).returncode != 0:
            raise Failed("Python cannot make virtual environments here; type: apt-get install python3-venv")
        # Whatever pip is told by its configuration and its variables holds. All packages are pinned, so none is looked for.
        install = [venv / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input",
                   "--no-deps", "-r", PEERS / name / "requirements.txt"]
        if subprocess.run(install, stdout=sys.stderr).returncode != 0:
            raise Failed("pip could not install its packages (see above; it needs the network once); the same command tries again")
        # Where `import models` finds them; PYTHONPATH does not come to Triton's backend.
        (site(venv) / "sandmill.pth").write_text(f"{PEERS / 'common'}\n")
        if name in KNOWN:
            KNOWN[name].prepare(venv)
        made.write_text(stamp(name))
    return venv


def free_port():
    """One that nobody listens on at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        return held.getsockname()[1]


@contextlib.contextmanager
def started(command, venv, folder, env, **pipes):
    """A process in a session of its own, which is stopped with all that it started; its errors go to `log` in the folder."""
    env = os.environ | {"PATH": f"{venv / 'bin'}:{os.environ['PATH']}", "VIRTUAL_ENV": str(venv), "OMP_NUM_THREADS": "1"} | env
    with open(folder / "log", "wb") as log:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": log} | pipes
        before = time.monotonic()
        # A program is looked for in our PATH, not in the one that it is given.
        command = [shutil.which(command[0], path=env["PATH"]) or command[0], *command[1:]]
        process = subprocess.Popen(command, cwd=folder, env=env, stderr=log, start_new_session=True, **pipes)
    server = Server(process, None, None, before)
    try:
        yield server
    finally:
        stop(server)


def alive(pid, fields):
    """Whether it runs still, and not another process that has the number by now: the time of its start tells."""
    with contextlib.suppress(OSError):
        now = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return now[0] != "Z" and now[19] == fields[19]
    return False


def stop(server):
    """The server's process is asked to end; what is left of its family then, or after ten seconds, is ended, and waited for."""
    family = server.tree()
    server.process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.process.wait(10)
    family |= server.tree()
    for pid, fields in family.items():
        if alive(pid, fields):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    server.process.wait()
    patience = time.monotonic() + 10
    while any(alive(*process) for process in family.items()) and time.monotonic() < patience:
        time.sleep(0.02)


def tail(folder):
    return (folder / "log").read_text(errors="replace")[-2000:]


@contextlib.contextmanager
def peer(name, venv):
    """One of KNOWN, once it has answered the first of its requests rightly."""
    known = KNOWN[name]
    with tempfile.TemporaryDirectory(prefix="sandmill-bench-") as folder:
        folder, port = pathlib.Path(folder), free_port()
        with started([str(word) for word in known.command(venv, port)], venv, folder, known.env(venv, port)) as server:
            server.address = f"127.0.0.1:{port}"
            request, failure = next(iter(known.requests().values())), None
            while True:
                try:
                    server.answer(request)
                    break
                except (OSError, http.client.HTTPException, Refused) as error:
                    failure = error
                if server.process.poll() is not None:
                    raise Failed(f"it ended with status {server.process.returncode}: {tail(folder)}")
                if time.monotonic() - server.started > 2 * PATIENCE_S:
                    raise Failed(f"it did not become ready: {failure}: {tail(folder)}")
                time.sleep(0.02)
            yield server
