#!/usr/bin/env python3
"""Makes plugin.wasm of the examples that are not in Rust, each with its language's own tool, and gives them their model.

A tool is pinned by hashes in its example's folder and installed under .sandmill. Where it cannot be installed, a line says so
and the example is left out: nobody needs Node.js to build Sandmill. Quick and offline when nothing has changed; plugin.wasm
appears under its name only when it is whole.
"""
import fcntl, hashlib, os, pathlib, shutil, subprocess, sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
STATE = ROOT / ".sandmill"
CONTRACT = ROOT / "wit" / "v0.1"
MODEL = EXAMPLES / "digits" / "model.onnx"
WORLD = "sandmill:plugin/postprocessor"
# The engine for JavaScript reads the clock in every call, which no plugin may without a grant, and HTTP is refused altogether.
# Randomness stays: disabled, it would repeat what it gave when the component was built, even to `crypto`.
JS_DISABLED = ["clocks", "http", "fetch-event"]
NODE_OLDEST, PYTHON_OLDEST = (20, 19), (3, 10)


class Unavailable(Exception):
    """A tool cannot be installed here; why."""


class JavaScript:
    """componentize-js: StarlingMonkey, which is Firefox's engine, started up beforehand."""
    source = "plugin.js"
    pins = ["package.json", "package-lock.json"]

    @staticmethod
    def version():
        if not (shutil.which("node") and shutil.which("npm")):
            raise Unavailable("Node.js and npm are missing")
        version = output("node", "--version").strip()
        if tuple(int(part) for part in version.lstrip("v").split(".")[:2]) < NODE_OLDEST:
            raise Unavailable(f"Node.js {version} is older than 20.19")
        return version

    @staticmethod
    def install(folder, tool):
        print(f"installing componentize-js for {folder.name} (190 MB)", flush=True)
        tool.mkdir(parents=True)
        for pin in JavaScript.pins:
            shutil.copy(folder / pin, tool)
        attempt("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1", cwd=tool)

    @staticmethod
    def build(tool, sources, wasm):
        command = tool / "node_modules" / ".bin" / "componentize-js"
        run(command, sources / JavaScript.source, "--wit", CONTRACT, "--world-name", WORLD, "--disable", *JS_DISABLED,
            "--out", wasm)


class Python:
    """componentize-py: CPython, with its imports done."""
    source = "plugin.py"
    pins = ["requirements.txt"]

    @staticmethod
    def version():
        if sys.version_info < PYTHON_OLDEST:
            raise Unavailable(f"Python {sys.version.split()[0]} is older than 3.10")
        try:
            import ensurepip  # noqa: F401: Debian ships it, and so a `venv` that works, in a package of its own.
        except ImportError:
            raise Unavailable("Python cannot make virtual environments; type: apt-get install python3-venv")
        return sys.version

    @staticmethod
    def install(folder, tool):
        print(f"installing componentize-py for {folder.name} (60 MB)", flush=True)
        run(sys.executable, "-m", "venv", tool)
        attempt(tool / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input",
                "--retries=1", "--require-hashes", "--only-binary", ":all:", "-r", folder / Python.pins[0])

    @staticmethod
    def build(tool, sources, wasm):
        # Stubs in the place of WASI: Python would import sockets, and the contract refuses those.
        # Without VIRTUAL_ENV it would look for modules among those of whatever Python is in PATH.
        run(tool / "bin" / "componentize-py", "--quiet", "--wit-path", CONTRACT, "--world", WORLD, "componentize",
            "--stub-wasi", "--python-path", sources, "--output", wasm, "plugin", env=os.environ | {"VIRTUAL_ENV": str(tool)})


LANGUAGES = {"digits-js": JavaScript, "digits-py": Python}


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def run(*command, **options):
    """Runs quietly; what a tool that failed has said is shown in full."""
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if result.returncode != 0:
        sys.exit(f"{result.stdout}{pathlib.Path(command[0]).name} failed (exit status {result.returncode}, see above)")


def attempt(*command, **options):
    """Runs quietly an installer, which may fail for want of a network or of a build for this machine."""
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if result.returncode != 0:
        errors = [line for line in result.stdout.splitlines() if line.lower().startswith(("error", "npm err"))]
        reason = errors[0] if errors else f"exit status {result.returncode}"
        raise Unavailable(f"{pathlib.Path(command[0]).name} could not install its tool: {reason}")


def digest(*parts):
    """Of files, by their content, and texts."""
    contents = [part.read_bytes() if isinstance(part, pathlib.Path) else part.encode() for part in parts]
    return hashlib.sha256(b"".join(hashlib.sha256(content).digest() for content in contents)).hexdigest()


def is_stamped(stamp, content):
    return stamp.is_file() and stamp.read_text() == content


def place(content, target, half):
    half.write_bytes(content)
    half.replace(target)


def make(name):
    language, folder, state = LANGUAGES[name], EXAMPLES / name, STATE / name
    model = MODEL.read_bytes()
    if not (folder / "model.onnx").is_file() or (folder / "model.onnx").read_bytes() != model:
        # A copy, since a function's files lie in its folder; git has the model once.
        place(model, folder / "model.onnx", state / "model.onnx")

    pins = [folder / pin for pin in language.pins]
    source, wasm = folder / language.source, folder / "plugin.wasm"
    built = digest(source, *pins, *sorted(CONTRACT.rglob("*.wit")), pathlib.Path(__file__))
    if wasm.is_file() and is_stamped(state / "built", built):
        return
    tool, installed = state / "tool", digest(*pins, language.version())
    # The stamp is written last and goes with the tool: it tells a whole one from half of one.
    if not is_stamped(tool / "stamp", installed):
        shutil.rmtree(tool, ignore_errors=True)
        language.install(folder, tool)
        (tool / "stamp").write_text(installed)
    print(f"building examples/{name}/plugin.wasm", flush=True)
    # In a copy of its own: Python writes compiled modules beside the source.
    sources = state / "sources"
    shutil.rmtree(sources, ignore_errors=True)
    sources.mkdir()
    shutil.copy(source, sources)
    language.build(tool, sources, state / "plugin.wasm")
    (state / "plugin.wasm").replace(wasm)
    (state / "built").write_text(built)


def main():
    # One at a time in this checkout.
    for name in LANGUAGES:
        (STATE / name).mkdir(parents=True, exist_ok=True)
        try:
            with open(STATE / name / "lock", "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                make(name)
        except Unavailable as error:
            print(f"examples/{name}/plugin.wasm is not built: {error}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command starts again")
