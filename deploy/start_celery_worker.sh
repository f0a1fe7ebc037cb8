#!/usr/bin/env bash
# Starts one Celery worker, once its settings are right and its broker answers.
#
# All it reads are environment variables. Ends with 78 when one of them is wrong and with 69 when
# the broker does not answer; otherwise it becomes the worker, so signals reach that.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: deploy/start_celery_worker.sh [--check]

Environment variables, besides the settings in deploy/README.md:
  CELERY_BROKER_URL  the broker, or CELERY_BROKER_URL_FILE for a file that holds it; required
  CONCURRENCY        processes, that is tasks that run at once: 1 to 1024 (default 2)
  QUEUES             which of these it serves, separated by commas (default: all)
                     high_priority,agent_tasks,validation,tests,mcp_operations,default,low_priority
  NAME               what comes before @ in the worker's name (default worker): two workers on one
                     machine need two
  LOG_LEVEL          DEBUG, INFO, WARNING or ERROR (default INFO)
  NO_COLOR           no colours on a terminal either

--check stops before the worker starts.
TEXT
}

root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=deploy/environment.sh
. "$root/deploy/environment.sh"

readonly WRONG=78 AWAY=69 # EX_CONFIG and EX_UNAVAILABLE of sysexits.h

red='' green='' plain='' colours=(--no-color)
if [ -t 2 ] && [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then
    red=$'\e[31m' green=$'\e[32m' plain=$'\e[0m' colours=()
fi

refuse() { # EXIT-CODE SENTENCE
    say "$red$2$plain"
    exit "$1"
}

# -- what was asked for -----------------------------------------------------------------------------

check_only=false
case ${1:-} in
    '') ;;
    --check) check_only=true ;;
    -h | --help)
        usage
        exit 0
        ;;
    *) refuse "$WRONG" "$1 is not known here: see --help." ;;
esac
[ $# -le 1 ] || refuse "$WRONG" "One argument at most: see --help."

if [ -z "${CELERY_BROKER_URL:-}${CELERY_BROKER_URL_FILE:-}" ]; then
    refuse "$WRONG" "CELERY_BROKER_URL is not set: no broker, no Celery worker. Set it to an address such \
as redis://127.0.0.1:6379/0, or start a worker that needs none: ./deploy/up.sh."
fi

concurrency=${CONCURRENCY:-2}
if ! [[ $concurrency =~ ^[1-9][0-9]{0,3}$ ]] || ((concurrency > 1024)); then
    refuse "$WRONG" "CONCURRENCY='$concurrency' is not a whole number from 1 to 1024."
fi

level=${LOG_LEVEL:-INFO}
level=${level^^}
case $level in
    DEBUG | INFO | WARNING | ERROR) ;;
    *) refuse "$WRONG" "LOG_LEVEL='$level' is not one of DEBUG, INFO, WARNING, ERROR." ;;
esac

name=${NAME:-worker}
[[ $name =~ ^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$ ]] ||
    refuse "$WRONG" "NAME='$name' may have letters, digits, dots, dashes and underscores only, at most 64."

# Most urgent first. A worker on Redis reads its queues in the order in which they are named, so
# the ones that were asked for are put into this order too.
readonly ALL=high_priority,agent_tasks,validation,tests,mcp_operations,default,low_priority
IFS=, read -ra asked <<<"${QUEUES:-$ALL}"
wanted=,
for queue in "${asked[@]}"; do
    queue=${queue//[[:space:]]/}
    [ -n "$queue" ] || continue
    [[ ,$ALL, == *",$queue,"* ]] || refuse "$WRONG" "QUEUES has '$queue', which is not among $ALL."
    wanted+=$queue,
done
queues=
for queue in ${ALL//,/ }; do
    if [[ $wanted == *",$queue,"* ]]; then queues+=${queues:+,}$queue; fi
done
[ -n "$queues" ] || refuse "$WRONG" "QUEUES='${QUEUES:-}' names no queue."

# -- where it runs ----------------------------------------------------------------------------------

# In the image this finds everything installed.
make_environment "$root/.venv" "$root/requirements.lock"
cd "$root"
export DJANGO_SETTINGS_MODULE=${DJANGO_SETTINGS_MODULE:-config.settings} LOG_LEVEL=$level

# The settings know where the address comes from and what else the broker is told. A password is
# never shown: not in the address, and not where a broker repeats it.
check_broker() {
    "$root/.venv/bin/python" - "$WRONG" "$AWAY" <<'PYTHON'
import signal
import sys
from urllib.parse import unquote, urlsplit

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from kombu import Connection

PATIENCE = 10  # seconds for everything
wrong, away = map(int, sys.argv[1:])


def end(code, sentence):
    print(sentence, file=sys.stderr)
    sys.exit(code)


def slow(*_):
    raise TimeoutError(f"no answer within {PATIENCE} s")


try:
    url, options = settings.CELERY_BROKER_URL, dict(settings.CELERY_BROKER_TRANSPORT_OPTIONS)
except ImproperlyConfigured as error:
    end(wrong, f"The settings are wrong. {error}")

hosts = [urlsplit(part) for part in url.split(";")]
secrets = {word for host in hosts if host.password for word in (host.password, unquote(host.password))}
place = ", ".join(f"{host.scheme}://{host.netloc.rpartition('@')[2]}" for host in hosts)
if hosts[0].scheme in {"redis", "rediss", "sentinel"}:
    options |= {"socket_timeout": 3, "socket_connect_timeout": 3}

signal.signal(signal.SIGALRM, slow)
signal.alarm(PATIENCE)
try:
    with Connection(url, connect_timeout=3, transport_options=options) as connection:
        connection.ensure_connection(max_retries=1, interval_start=0.5, timeout=PATIENCE)
except Exception as error:  # whatever the broker's library raises
    reason = str(error) or type(error).__name__
    for secret in secrets:
        reason = reason.replace(secret, "**")
    told = f"The broker at {place} cannot be used: {reason.rstrip('.')}."
    end(away, f"{told} Start it, or correct CELERY_BROKER_URL.")
print(place)
PYTHON
}

answer=$(check_broker 2>&1) && code=0 || code=$?
if [ "$code" != 0 ]; then
    refuse "$code" "$answer"
fi
say "${green}The broker at ${answer##*$'\n'} answers.$plain Worker $name: $concurrency at once, queues $queues."
[ "$check_only" = false ] || exit 0

# Without mingle and gossip: what they share between workers is revoked ids, and here the rows of
# the database say what is cancelled. It saves a second at each start and messages to every worker.
exec "$root/.venv/bin/celery" "${colours[@]}" -A config worker --pool prefork \
    --concurrency "$concurrency" --queues "$queues" --hostname "$name@%h" --loglevel "$level" \
    --task-events --without-mingle --without-gossip
