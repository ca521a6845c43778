#!/bin/sh
# plugin.py → plugin.wasm. Stubs in the place of WASI: Python would import sockets, which no plugin may.
set -eu
cd "$(dirname "$0")"
# Without VIRTUAL_ENV the tool would look for modules among those of whatever Python is in PATH.
VIRTUAL_ENV="$PWD/.venv" .venv/bin/componentize-py --quiet --wit-path wit/v0.1 --world sandmill:plugin/processor \
    componentize --stub-wasi --python-path . --output plugin.wasm plugin
