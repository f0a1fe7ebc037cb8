#!/bin/sh
# Rewrites the two lock files from pyproject.toml: versions and hashes, no addresses.
set -eu
cd "$(dirname "$0")/.."
command -v uv >/dev/null || { echo "lock.sh needs uv: pip install uv" >&2; exit 1; }
lock() {
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-header --upgrade "$@" pyproject.toml
}
# The long-term-support release is what we lock; Django 6.0 is allowed to those who ask for it.
echo "django<6" | lock --constraint - --output-file requirements.lock
lock --extra test --constraint requirements.lock --output-file requirements-test.lock
