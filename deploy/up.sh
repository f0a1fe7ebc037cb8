#!/bin/sh
# Starts Ollama Coder: installs what it needs into .venv, then runs `manage.py up` with the same
# arguments. `./deploy/up.sh --help` lists them.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
# shellcheck source=deploy/environment.sh
. "$root/deploy/environment.sh"

make_environment "$root/.venv" "$root/requirements.lock"
exec "$root/.venv/bin/python" "$root/manage.py" up "$@"
