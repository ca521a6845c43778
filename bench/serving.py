"""What the benches share: a server's process and what it costs, the three requests with their right answers, wrk, and figures.

Whatever a server does wrongly raises Failed: the figures of a server that fails are worth nothing. Python's standard library only.
"""
import contextlib, dataclasses, http.client, json, os, pathlib, statistics, struct, subprocess, sys, tempfile, threading, time
from typing import Callable

ROOT = pathlib.Path(__file__).resolve().parents[1]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
# The server that is measured, and where the benches' own programs are.
SERVER = pathlib.Path(os.environ.get("SANDMILL", TARGET / "release" / "sandmill")).absolute()
TOOLS = TARGET / "release"
PATIENCE_S = 60
# No line per request: none of the servers that we compare with writes one.
CONFIG = '[log]\nfilter = "info,access=warn"\n'


class Failed(Exception):
    """A server did not start, answered wrongly, refused, or broke a connection."""


class Refused(Failed):
    """It answered with another status than 200."""


@dataclasses.dataclass
class Request:
    path: str
    body: bytes
    headers: dict
    # Raises ValueError if this answer (headers, body) is not the right one.
    check: Callable


@dataclasses.dataclass
class Server:
    process: subprocess.Popen
    address: str
    # Of Sandmill alone.
    control: str | None
    started: float

    def metric(self, line):
        """A metric's value; 0 if there is no such line yet."""
        connection = http.client.HTTPConnection(self.control, timeout=PATIENCE_S)
        with contextlib.closing(connection):
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        return sum(float(found.rsplit(" ", 1)[1]) for found in text.splitlines() if found.startswith(line))

    def answer(self, request):
        connection = http.client.HTTPConnection(self.address, timeout=PATIENCE_S)
        with contextlib.closing(connection):
            connection.request("POST", request.path, request.body, request.headers)
            response = connection.getresponse()
            body = response.read()
        if response.status != 200:
            raise Refused(f"{request.path} is answered with {response.status}, so nothing is measured: {body[:300]!r}")
        try:
            request.check(response.headers, body)
        except (ValueError, KeyError, IndexError, TypeError, struct.error) as error:
            raise Failed(f"{request.path} answers wrongly, so nothing is measured: {error!r}: {body[:300]!r}") from error

    def ask(self, method, path, key, body, **headers):
        """Asks the control plane; what it answers."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()} | {"Authorization": f"Bearer {key}"}
        connection = http.client.HTTPConnection(self.control, timeout=PATIENCE_S)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            answer = response.read()
        if response.status >= 300:
            raise Failed(f"{method} {path} is answered with {response.status}: {answer.decode()}")
        return json.loads(answer)

    def tree(self):
        """Of the server and all that it started: the process id, and the fields of /proc/PID/stat from the state on."""
        stats = {}
        for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                stats[int(path.parent.name)] = path.read_text().rsplit(")", 1)[1].split()
        # Where the server leads a session, its orphans are still in that.
        family = {self.process.pid} | {pid for pid, fields in stats.items() if int(fields[3]) == self.process.pid}
        while more := {pid for pid, fields in stats.items() if int(fields[1]) in family} - family:
            family |= more
        return {pid: stats[pid] for pid in family if pid in stats}

    def cpu_s(self):
        """User and system time; that of children which have ended is in their parents' third and fourth field."""
        ticks = sum(int(field) for fields in self.tree().values() for field in fields[11:15])
        return ticks / os.sysconf("SC_CLK_TCK")

    def rss_mb(self):
        return sum(int(fields[21]) for fields in self.tree().values()) * os.sysconf("SC_PAGE_SIZE") / 2**20

    def pss_mb(self):
        """Proportional memory: a page that processes share is counted once."""
        kilobytes = 0
        for pid in self.tree():
            # A process may have ended meanwhile.
            with contextlib.suppress(OSError):
                lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
                kilobytes += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        return kilobytes / 1024


class Figures:
    """Values by name and unit, one for each run."""

    def __init__(self):
        self.figures = {}

    def note(self, name, value, unit):
        print(f"{name} {value:.6g} {unit}", file=sys.stderr)
        self.figures.setdefault((name, unit), []).append(value)

    def report(self):
        """One line of JSON per figure; they are forgotten then."""
        for (name, unit), values in self.figures.items():
            short = [float(f"{value:.6g}") for value in (statistics.median(values), *values)]
            print(json.dumps({"name": name, "value": short[0], "unit": unit, "runs": short[1:]}), flush=True)
        self.figures.clear()


@contextlib.contextmanager
def sandmill(functions, settings=CONFIG, store=None, binary=SERVER):
    """A Sandmill with these functions, folders in examples/ or anywhere, once all of them are warm."""
    with tempfile.TemporaryDirectory(prefix="sandmill-bench-") as folder:
        config, log = pathlib.Path(folder, "sandmill.toml"), pathlib.Path(folder, "log")
        config.write_text(settings)
        command = [binary, "serve", "--config", config, "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"]
        command += ["--store", store] if store else []
        for function in functions:
            command += ["--function", ROOT / "examples" / function]
        # A binary from elsewhere finds this checkout's runtime, too.
        runtime = {"ORT_DYLIB_PATH": str(library) for library in (ROOT / ".sandmill" / "lib").glob("libonnxruntime.so*")}
        with open(log, "wb") as errors:
            started = time.monotonic()
            process = subprocess.Popen(command, cwd=ROOT, env=runtime | os.environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                       stderr=errors, text=True)
        alarm = threading.Timer(PATIENCE_S, process.kill)
        alarm.start()
        try:
            # The first line names the addresses, the functions' first; the second says that all of them are warm.
            addresses, ready = process.stdout.readline(), process.stdout.readline()
            alarm.cancel()
            if not ready.startswith("ready"):
                raise Failed(f"the server did not become ready: {addresses}{ready}\n{log.read_text()[-2000:]}")
            listen, control = (part.split()[0].strip("(),") for part in addresses.split("http://")[1:])
            yield Server(process, listen, control, started)
        finally:
            alarm.cancel()
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()


def wrk(server, request, connections, secs):
    """One request over and over; what bench/post.lua prints."""
    with tempfile.NamedTemporaryFile(prefix="sandmill-bench-") as body:
        body.write(request.body)
        body.flush()
        headers = [word for header in request.headers.items() for word in header]
        command = ["wrk", "-t1", f"-c{connections}", f"-d{secs}s", "--timeout", "10s", "-s", ROOT / "bench" / "post.lua",
                   f"http://{server.address}{request.path}", "--", body.name, *headers]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"wrk failed: {done.stdout}{done.stderr}")
    result = json.loads(done.stdout.splitlines()[-1])
    if result["refused"] or result["broken"] or not result["requests"]:
        raise Failed(f"{request.path} failed under load, so nothing is measured: {result}")
    return result


def load(server, request, connections, secs):
    """What wrk found, with requests per second and the server's CPU time per request."""
    before = server.cpu_s()
    result = wrk(server, request, connections, secs)
    used = server.cpu_s() - before
    return result | {"rps": result["requests"] / result["seconds"], "cpu_us": used / result["requests"] * 1e6}


def near(given, expected, what):
    if not abs(given - expected) <= 1e-5:
        raise ValueError(f"{what} is {given}, not {expected}")


def check_digit(label, probabilities):
    if label != 2:
        raise ValueError(f"the label is {label}, not 2")
    near(probabilities[2], 0.99999869, "p[2]")


def check_angle(upright, upside_down):
    near(upright, 0.5761505, "the first score")
    near(upside_down, 0.4238495, "the second score")


def digits_request(path="/fn/digits"):
    def check(_, body):
        answer = json.loads(body)
        check_digit(answer["label"], answer["p"])
    body = (ROOT / "examples" / "digits" / "sample.json").read_bytes()
    return Request(path, body, {"Content-Type": "application/json"}, check)


def angle_request(path="/fn/angle"):
    def check(_, body):
        check_angle(*struct.unpack("<2f", body))
    body = (ROOT / "examples" / "angle" / "sample.bin").read_bytes()
    return Request(path, body, {"Content-Type": "application/octet-stream"}, check)


def file_type_request(path="/fn/file-type"):
    """A file of 100 KB."""
    def check(_, body):
        if (answer := json.loads(body))["label"] != "python":
            raise ValueError(f"the label is {answer['label']}, not python")
    sample = (ROOT / "examples" / "file-type" / "sample.py").read_bytes()
    body = (sample * (100_000 // len(sample) + 1))[:100_000]
    return Request(path, body, {"Content-Type": "application/octet-stream"}, check)


def embed_request(path="/fn/embed"):
    """A sentence of nine tokens."""
    def check(_, body):
        vector = json.loads(body)["data"][0]["embedding"]
        near(sum(x * x for x in vector), 1, "the square of the vector's length")
    body = (ROOT / "examples" / "embed" / "sample.json").read_bytes()
    return Request(path, body, {"Content-Type": "application/json"}, check)


def binary_request(path, name, shape, tensor, check):
    """By the Open Inference Protocol, one FP32 tensor of this shape, binary both ways; `check` is given the outputs' bytes by name."""
    def check_outputs(headers, body):
        length = int(headers["Inference-Header-Content-Length"])
        data, outputs = body[length:], {}
        for output in json.loads(body[:length])["outputs"]:
            size = output["parameters"]["binary_data_size"]
            outputs[output["name"]], data = data[:size], data[size:]
        check(outputs)
    inputs = [{"name": name, "datatype": "FP32", "shape": shape, "parameters": {"binary_data_size": len(tensor)}}]
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return Request(path, head + tensor, headers, check_outputs)


def oip_request(path="/v2/models/digits/infer"):
    """The digits model itself by the Open Inference Protocol, with binary tensors both ways."""
    def check(outputs):
        check_digit(struct.unpack("<q", outputs["label"])[0], struct.unpack("<10f", outputs["probabilities"]))
    pixels = json.loads(digits_request().body)["x"]
    return binary_request(path, "X", [1, len(pixels)], struct.pack(f"<{len(pixels)}f", *pixels), check)
