#!/usr/bin/env python3
"""Makes .sandmill/venv: the third-party clients of tests/requirements.txt, each wheel checked by its hash.

Quick and offline when the environment is there already. A stamp, written last, tells a whole environment from half of one.
"""
import hashlib, pathlib, shutil, subprocess, sys

REQUIREMENTS = pathlib.Path(__file__).with_name("requirements.txt")
VENV = pathlib.Path(__file__).parents[1] / ".sandmill" / "venv"
STAMP = VENV / "stamp"
OLDEST, NEWEST = (3, 11), (3, 14)


def stamp():
    return f"{hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()} {sys.version}\n"


def make():
    try:
        import ensurepip  # noqa: F401: Debian ships it, and so a `venv` that works, in a package of its own.
    except ImportError:
        sys.exit("Python cannot make virtual environments here; type: apt-get install python3-venv")
    shutil.rmtree(VENV, ignore_errors=True)
    print(f"making {VENV} for the tests (about 100 MB to download)", flush=True)
    subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    subprocess.run([VENV / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input",
                    "--require-hashes", "--only-binary", ":all:", "-r", REQUIREMENTS], check=True)
    STAMP.write_text(stamp())


def main():
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        sys.exit(f"the tests' clients are pinned for Python 3.11 to 3.14, and this is {sys.version.split()[0]}; "
                 "type: make test PYTHON=python3.11")
    if STAMP.is_file() and STAMP.read_text() == stamp():
        return
    try:
        make()
    except subprocess.CalledProcessError as error:
        sys.exit(f"{VENV} was not made (exit status {error.returncode}, see above); the same command tries again")
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command starts again")


if __name__ == "__main__":
    main()
