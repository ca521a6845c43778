#!/usr/bin/env python3
"""Rewrites tests/requirements.txt: the Python clients that the tests run, pinned with the hashes of their wheels.

Run by hand to move a version (needs the network and a recent pip); the tests themselves only read the result.
"""
import collections, json, pathlib, subprocess, sys, tempfile

# onnxruntime is the release that the server itself loads; numpy is the newest that still knows the oldest Python.
# The last line is an S3-compatible server for the catalog's tests, with those of its extras that it needs for that.
WANTED = ["tritonclient[http]==2.73.0", "magika==1.0.3", "onnxruntime==1.31.1", "numpy==2.4.6",
          "moto==5.2.5", "flask==3.1.3", "flask-cors==6.0.5", "py-partiql-parser==0.6.3", "PyYAML==6.0.4"]
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
ARCHITECTURES = ["x86_64", "aarch64"]
TAGS = ["manylinux_2_28", "manylinux_2_27", "manylinux_2_24", "manylinux_2_17", "manylinux2014", "manylinux_2_5", "manylinux1"]
HEADER = """\
# Made by tests/lock.py, for Python {first} to {last} on Linux ({architectures}); do not edit.
# Wanted: {wanted}
"""


def resolve(python, architecture):
    """What pip would install there: (name, version, file name, SHA-256) of each wheel. Downloads metadata only."""
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder, "report.json")
        platforms = [word for tag in TAGS for word in ("--platform", f"{tag}_{architecture}")]
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--target", folder,
                        "--only-binary", ":all:", "--implementation", "cp", "--python-version", python, *platforms,
                        "--report", report, *WANTED], check=True)
        for item in json.loads(report.read_text())["install"]:
            source = item["download_info"]
            yield (item["metadata"]["name"].lower(), item["metadata"]["version"], source["url"].rsplit("/", 1)[1],
                   source["archive_info"]["hashes"]["sha256"])


def main():
    wheels = collections.defaultdict(dict)
    for architecture in ARCHITECTURES:
        for python in PYTHONS:
            for name, version, file, digest in resolve(python, architecture):
                wheels[name, version][file] = digest
    names = [name for name, _ in wheels]
    if len(names) != len(set(names)):
        sys.exit("a package resolves to different versions: pin it in WANTED")
    text = HEADER.format(first=PYTHONS[0], last=PYTHONS[-1], architectures=", ".join(ARCHITECTURES), wanted=" ".join(WANTED))
    for (name, version), files in sorted(wheels.items()):
        # A pure wheel serves everyone, and is the smaller download.
        pure = {file: digest for file, digest in files.items() if file.endswith("-none-any.whl")}
        hashes = sorted((pure or files).values())
        text += f"{name}=={version}" + "".join(f" \\\n    --hash=sha256:{digest}" for digest in hashes) + "\n"
    pathlib.Path(__file__).with_name("requirements.txt").write_text(text)


if __name__ == "__main__":
    main()
