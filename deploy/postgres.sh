# Sourced by test.sh: finds a PostgreSQL server for the tests, or starts a private one.
# shellcheck shell=bash

postgres_url='' private_postgres=''

answers() { # URL
    "${bin:?}/python" -W ignore - "$1" 2>/dev/null <<'PYTHON'
import sys, psycopg
psycopg.connect(sys.argv[1], connect_timeout=3).close()
PYTHON
}

# PostgreSQL refuses to run as root.
as_postgres() {
    if [ "$(id -u)" = 0 ]; then
        runuser -u postgres -- "$@"
    else
        "$@"
    fi
}

# find_postgres SCRATCH: sets postgres_url, or fails.
find_postgres() {
    local local_server=postgres://postgres@127.0.0.1:5432/postgres
    if [ -n "${TEST_POSTGRES_URL:-}" ]; then
        postgres_url=$TEST_POSTGRES_URL
        answers "$postgres_url" || { say "TEST_POSTGRES_URL does not answer."; return 1; }
    elif answers "$local_server"; then
        postgres_url=$local_server
    else
        start_private_postgres "$1"
    fi
}

start_private_postgres() {
    local binaries='' directory socket port
    for directory in "$(dirname "$(command -v initdb || echo /nowhere/initdb)")" \
        /usr/lib/postgresql/*/bin; do
        if [ -x "$directory/initdb" ]; then binaries=$directory; fi
    done
    [ -n "$binaries" ] || return 1
    private_postgres=$binaries
    cluster=$(mktemp -d /tmp/oc-postgres-XXXXXX)
    socket=$cluster/socket
    mkdir "$socket"
    if [ "$(id -u)" = 0 ]; then chown -R postgres "$cluster"; fi
    port=$("${bin:?}/python" -c \
        'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
    # Safe to lose, so nothing waits for the disk.
    local settings="-c listen_addresses=127.0.0.1 -c port=$port -c max_connections=200"
    settings+=" -c unix_socket_directories=$socket -c fsync=off"
    if ! {
        as_postgres "$binaries/initdb" --auth trust --username postgres --no-sync \
            --pgdata "$cluster/data" &&
            as_postgres "$binaries/pg_ctl" --pgdata "$cluster/data" --wait --silent \
                --log "$cluster/server.log" --options "$settings" start
    } >"$1/postgres.log" 2>&1; then
        cat "$1/postgres.log" "$cluster/server.log" >&2
        return 1
    fi
    postgres_url=postgres://postgres@127.0.0.1:$port/postgres
}

stop_private_postgres() {
    [ -n "$private_postgres" ] || return 0
    as_postgres "$private_postgres/pg_ctl" --pgdata "$cluster/data" --mode immediate --silent stop
    rm -rf "$cluster"
}
