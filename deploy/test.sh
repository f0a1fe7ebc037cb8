#!/usr/bin/env bash
# The whole test command: static checks, then every test on SQLite and those that depend on the
# database on PostgreSQL too. Arguments go to pytest: ./deploy/test.sh tests/batches -k retry
#
# PostgreSQL is TEST_POSTGRES_URL, else a server on 127.0.0.1:5432 that lets `postgres` in, else a
# private one started from the installed binaries. Under CI=true the lack of one is a failure.
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=deploy/environment.sh
. "$root/deploy/environment.sh"
# shellcheck source=deploy/postgres.sh
. "$root/deploy/postgres.sh"

make_environment "$root/.venv-test" "$root/requirements-test.lock"
add_alone "$root/.venv-test" "$root/tests/requirements-model.lock"
cd "$root" || exit 1
bin=$root/.venv-test/bin
scratch=$(mktemp -d "${TMPDIR:-/tmp}/oc-test-XXXXXX")
trap 'stop_private_postgres; rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM

command -v bwrap >/dev/null ||
    say "bubblewrap is missing: tests of the sandbox need it (apt-get install bubblewrap)."
command -v npm >/dev/null ||
    say "npm is missing: tests against MCP servers of others need it (apt-get install nodejs npm)."
command -v redis-server >/dev/null ||
    say "redis-server is missing: tests of Celery need it (apt-get install redis-server)."
[ -e /usr/lib/rabbitmq/bin/rabbitmq-server ] || [ -e /usr/local/sbin/rabbitmq-server ] ||
    say "rabbitmq-server is missing: tests of Celery need it (apt-get install rabbitmq-server)."
command -v chromium >/dev/null || command -v chromium-browser >/dev/null ||
    command -v google-chrome >/dev/null ||
    say "chromium is missing: tests in a browser need it (apt-get install chromium)."

# Hundreds of processes are started here: each would compile every module anew.
unset PYTHONDONTWRITEBYTECODE

summary=() failed=0

# step NAME COMMAND...: runs it, keeps its last line for pytest, and never stops the ones after it.
step() {
    local name=$1 start=$SECONDS code line=
    shift
    printf '\n== %s\n' "$name"
    "$@" 2>&1 | tee "$scratch/output"
    code=${PIPESTATUS[0]}
    case $name in pytest*) line=$(tail -n 1 "$scratch/output") ;; esac
    # With a selection of tests, one of the two runs may have none of them.
    if [ "$code" = 5 ] && [ "$selected" = 1 ]; then code=0; fi
    [ "$code" = 0 ] || failed=1
    summary+=("$(printf '%-6s %-22s %4d s  %s' "$([ "$code" = 0 ] && echo ok || echo FAILED)" \
        "$name" $((SECONDS - start)) "$line")")
}

# shellcheck disable=SC2329  # called by name, through step
production() {
    env DATA_DIR="$scratch/production" DATABASE_URL= DEBUG=false HTTPS=true \
        SECRET_KEY="only-for-this-check-$(printf 'k3y%.0s' {1..20})" \
        ALLOWED_HOSTS=console.example.org \
        "$bin/python" -W error manage.py "$@"
}

# shellcheck disable=SC2329
run_pytest() { # PROCESSES DATABASE_URL DATA_DIR ARGUMENTS...
    local processes=$1 url=$2 data=$3
    shift 3
    # Who runs what, and in which order: tests/conftest.py.
    env DATABASE_URL="$url" DATA_DIR="$data" "$bin/python" -m pytest \
        -n "$processes" --no-loadscope-reorder "$@"
}

selected=$(($# > 0))
step "ruff check" "$bin/ruff" check .
step "ruff format" "$bin/ruff" format --check .
step "mypy" "$bin/mypy"
step "import contracts" "$bin/lint-imports"
step "check --deploy" production check --deploy --fail-level WARNING
step "migrations" production makemigrations --check --dry-run

mkdir "$scratch/data" "$scratch/data-postgres"
postgres_pid=''
if find_postgres "$scratch"; then
    # Not there yet: the tests make their own. Both runs wait much, so they run side by side, and
    # the shorter one, without Celery, takes what needs no database, or any.
    database=oc_$$_$RANDOM
    # Its tests of Celery wait for brokers and workers most of the time: more of them at once.
    run_pytest 5 "${postgres_url%/*}/$database" "$scratch/data-postgres" \
        -m "not sqlite_only and not either" --ignore=tests/agents \
        --ignore=tests/architecture --ignore=tests/browser "$@" \
        >"$scratch/postgres-output" 2>&1 &
    postgres_pid=$!
fi

step "pytest on SQLite" run_pytest 2 "" "$scratch/data" -m "not postgres_only" "$@"

# shellcheck disable=SC2329
postgres_run() {
    cat "$scratch/postgres-output"
    return "$postgres_code"
}

if [ -n "$postgres_pid" ]; then
    postgres_code=0
    wait "$postgres_pid" || postgres_code=$?
    step "pytest on PostgreSQL" postgres_run
elif [ "${CI:-}" = true ]; then
    failed=1
    summary+=("FAILED pytest on PostgreSQL     no server, and CI must not go without")
else
    say "PostgreSQL is missing, so half of the evidence is: apt-get install postgresql," \
        "or name a server: TEST_POSTGRES_URL=postgres://user:password@host:5432/postgres"
    summary+=("SKIPPED pytest on PostgreSQL    no server: see above")
fi

printf '\n== summary\n'
printf '%s\n' "${summary[@]}"
exit $failed
