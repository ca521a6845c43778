#!/bin/bash
# Keeps the last three copies of a folder.
set -euo pipefail

source_dir="${1:?usage: $0 DIR TARGET}"
target="${2:?usage: $0 DIR TARGET}"

for n in 2 1; do
    if [ -d "$target.$n" ]; then
        rm -rf "$target.$((n + 1))"
        mv "$target.$n" "$target.$((n + 1))"
    fi
done
cp -a "$source_dir" "$target.1" && echo "done: $(du -sh "$target.1" | cut -f1)"
