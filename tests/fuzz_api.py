#!/usr/bin/env python3
"""Asks the control API of a server what its own OpenAPI document says may be asked, and much that it says may not: fuzz_api.py SANDMILL

The server is a new one over a new store, with a tenant, and is asked with an operator's key, and then with the tenant's. 0 if nothing was answered with a status
of 500 or with one that is not described, or in a form that is not. Needs schemathesis, which it installs into .sandmill the first time.
"""
import json, os, pathlib, subprocess, sys, tempfile, urllib.request

ROOT = pathlib.Path(__file__).parents[1]
VENV = ROOT / ".sandmill" / "schemathesis"
# Newer ones ask other things: what one run finds, another should.
SCHEMATHESIS = "schemathesis==4.32.0"
EXAMPLES = os.environ.get("FUZZ_EXAMPLES", "40")
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance"
# What it does not know how to send: any bytes will do.
HOOKS = """
import schemathesis

@schemathesis.serializer("application/x-tar", "application/gzip", "application/wasm", "application/toml", "application/octet-stream")
def as_it_is(context, value):
    return bytes(value) if isinstance(value, (bytes, bytearray)) else str(value).encode("utf-8", "surrogatepass")
"""


def install():
    if not (VENV / "bin" / "schemathesis").exists():
        print(f"making {VENV} (about 50 MB to download)", flush=True)
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        subprocess.run([VENV / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input",
                        "--only-binary", ":all:", SCHEMATHESIS], check=True)


def fuzz(sandmill, folder):
    store = folder / "store"
    made = subprocess.run([sandmill, "init", "--store", store, "--no-profile", "--json"], check=True, capture_output=True, text=True)
    key = json.loads(made.stdout)["secret"]
    config, log = folder / "sandmill.toml", folder / "log"
    (folder / "hooks.py").write_text(HOOKS)
    # It changes far more than people do.
    config.write_text(f"[store]\nlocation = '{store}'\nwork = '{folder}/work'\nchanges_per_minute_max = 1000000\n")
    with open(log, "wb") as errors:
        server = subprocess.Popen([sandmill, "serve", "--config", config, "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0",
                                   "--json"], stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
        addresses = json.loads(server.stdout.readline())
        server.stdout.readline()
        control = addresses["control"]
        wanted = urllib.request.Request(f"{control}/v1/tenants/default/keys", b'{"scopes": ["admin"]}', method="POST",
                                        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"})
        with urllib.request.urlopen(wanted) as made:
            of_tenant = json.load(made)["secret"]
        # Of the keys that it finds, it would revoke its own.
        ended = [ask(control, folder, asking, without) for asking, without in ((key, "^/v1/keys/"), (of_tenant, "^/v1/(keys/|tenants)"))]
        return max(ended)
    finally:
        server.terminate()
        server.wait()
        if "panicked" in log.read_text():
            print(log.read_text()[-4000:])
            sys.exit("the server panicked")


def ask(control, folder, key, without):
    return subprocess.run([VENV / "bin" / "schemathesis", "run", f"{control}/v1/openapi.json", "--exclude-path-regex", without,
                           "--header", f"Authorization: Bearer {key}", "--checks", CHECKS, "--max-examples", EXAMPLES,
                           "--phases", "examples,coverage,fuzzing", "--workers", "1", "--continue-on-failure", "--no-color"],
                          cwd=folder, env=os.environ | {"SCHEMATHESIS_HOOKS": "hooks"}).returncode


def main():
    sandmill = pathlib.Path(sys.argv[1]).resolve()
    install()
    with tempfile.TemporaryDirectory(prefix="sandmill-fuzz-") as folder:
        sys.exit(fuzz(sandmill, pathlib.Path(folder)))


if __name__ == "__main__":
    main()
