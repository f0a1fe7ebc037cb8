"""Starts everything on this machine and watches over it."""

from __future__ import annotations

import contextlib
import errno
import http.client
import logging
import os
import socket
import sys
from argparse import ArgumentParser
from signal import Signals
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from django.db import DatabaseError, connection
from django.template.defaultfilters import pluralize
from django.urls import reverse
from django.utils.module_loading import import_string

from batches.management import installation, sampling
from batches.management.arguments import whole_number
from batches.management.asking import asker
from batches.management.base import ConsoleCommand
from batches.management.preparing import ANY, address, prepare
from batches.management.processes import Program, Supervisor
from batches.submission import InvalidSubmission

logger = logging.getLogger(__name__)

WEB_WORKERS, WEB_THREADS = 2, 4
WEB_GRACE = 10
"""Seconds for open requests when it stops. Gunicorn loses a SIGTERM that reaches a process of its
own between fork and its handlers, and then waits for all of them."""


class Command(ConsoleCommand):
    help = (
        "Prepare the database, then run the web server and a worker until Ctrl-C. "
        "Everything is kept in the data directory (--data-dir DIR, by default ./data)."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
        parser.add_argument("--port", type=whole_number(1, 65535), default=8000)
        parser.add_argument(
            "--slots",
            type=whole_number(1, 1024),
            default=2,
            help="tasks that run at once (2); from 2 on, long ones never take all of them",
        )

        parser.add_argument(
            "--demo",
            action="store_true",
            help="then submit a small batch of each kind on a sample project, as `demo` does",
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        host, port = options["host"], options["port"]
        try:
            with (
                installation.only_one(settings.DATA_DIR, address(host, port)),
                listen(host, port) as listener,
            ):
                prepare(self.say, address(host, port))
                self.warn(host)
                self.serve(listener, host, options["slots"], demo=options["demo"])
        except installation.AlreadyRunning as other:
            raise CommandError(
                f"Another `up` ({other}) runs on {settings.DATA_DIR}. Stop it first, or choose "
                "another --data-dir and --port."
            ) from other

    def warn(self, host: str) -> None:
        """Say loudly what a person should not find out later."""
        if os.geteuid() == 0:
            self.shout("Running as root: use an ordinary user where you can.")
        held = import_string(settings.SANDBOX_PROBE)()
        if held.kind == "rlimits":
            if settings.REQUIRE_SANDBOX:
                raise CommandError(f"REQUIRE_SANDBOX is true, but {held.reason}.")
            self.shout(
                "Commands of tasks are NOT ISOLATED: resource limits alone hold them, so they can "
                f"read and write what this user can. {held.reason}. REQUIRE_SANDBOX=true refuses "
                "to start like this."
            )
        if host not in {"127.0.0.1", "::1", "localhost"}:
            self.shout(
                f"Listening on {host}, which others may reach, without encryption: put a TLS "
                "proxy in front of it (deploy/README.md). Names it answers to, ALLOWED_HOSTS: "
                f"{', '.join(settings.ALLOWED_HOSTS)}."
            )

    def serve(self, listener: socket.socket, host: str, slots: int, *, demo: bool) -> None:
        port = listener.getsockname()[1]
        url = address(host, port)
        Supervisor(
            programs=[web(listener), *workers(slots)],
            say=self.shout,
            ready=lambda: answers(listener),
            when_ready=lambda: self.ready(url, demo=demo),
        ).run()
        self.say("Stopped.")

    def ready(self, url: str, *, demo: bool) -> None:
        self.say(f"The console is ready: {url}/admin/ (Ctrl-C stops it)")
        if demo:
            self.demonstrate(url)

    def demonstrate(self, url: str) -> None:
        try:
            samples, absent = sampling.choose()
            batches = sampling.submit(asker(None), samples)
        except (CommandError, DatabaseError, InvalidSubmission, sampling.DemoTaken) as refused:
            # The console is there all the same.
            self.shout(f"There is no demo: {refused}")
            return
        for sentence in absent:
            self.say(sentence)
        for batch in batches:
            page = reverse("admin:batches_batch_change", args=[batch.pk])
            tasks = f"{batch.total} task{pluralize(batch.total)}"
            self.say(f"Demo: {tasks} of {batch.kind}: {url}{page}")
        self.say("Some of these fail on purpose.")
        connection.close()

    def say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()

    def shout(self, text: str) -> None:
        if settings.LOG_FORMAT == "JSON":
            logger.warning("%s", text)
            return
        self.stderr.write(self.style.WARNING(f"** {text}"))
        self.stderr.flush()


def listen(host: str, port: int) -> socket.socket:
    """A bound socket that the web server inherits: the port stays ours while it restarts."""
    try:
        family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(place[:2], family=family, backlog=512)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            reason = "another program uses it. --port chooses another one"
        elif isinstance(error, socket.gaierror) or error.errno is None:
            reason = str(error.strerror)
        else:
            # Python adds the address to the text; the system's own is enough.
            reason = os.strerror(error.errno)
        raise CommandError(f"Cannot listen on {host}, port {port}: {reason}.") from error


def web(listener: socket.socket) -> Program:
    descriptor = listener.fileno()
    command = [sys.executable, "-m", "gunicorn", "config.wsgi", "--bind", f"fd://{descriptor}"]
    command += ["--worker-class", "gthread", "--workers", str(WEB_WORKERS)]
    command += ["--threads", str(WEB_THREADS), "--preload", "--no-control-socket"]
    command += ["--graceful-timeout", str(WEB_GRACE), "--log-level", "warning"]
    command += ["--chdir", str(settings.BASE_DIR)]
    # In a hurry it is killed: it keeps nothing, and may miss a gentler signal just after a fork.
    return Program("web", command, Signals.SIGKILL, Signals.SIGINT, (descriptor,), last=True)


def worker(slots: int) -> Program:
    manage = str(settings.BASE_DIR / "manage.py")
    command = [sys.executable, manage, "worker", "--slots", str(slots)]
    return Program("worker", command, Signals.SIGTERM, Signals.SIGTERM)


def workers(slots: int) -> list[Program]:
    """Those of the usual backend, and where it is wanted those that stand in for it."""
    if not settings.CELERY_BROKER_URL:
        return [worker(slots)]
    return [*celery(slots), *([worker(slots)] if settings.CELERY_FALLBACK else [])]


def celery(slots: int) -> list[Program]:
    """A worker and the scheduler, of which a console has one."""
    command = [sys.executable, "-m", "celery", "--workdir", str(settings.BASE_DIR), "-A", "config"]
    level = ["--loglevel", logging.getLevelName(logging.getLogger().level)]
    # As deploy/start_celery_worker.sh does, and for its reasons.
    alone = ["--without-mingle", "--without-gossip"]
    node = ["--hostname", f"up-{os.getpid()}@%h"]
    work = ["worker", "--concurrency", str(slots), *node, *alone, *level]
    schedule = ["beat", "--pidfile=", *level]
    return [
        Program("Celery worker", [*command, *work], Signals.SIGQUIT, Signals.SIGQUIT),
        Program("beat", [*command, *schedule], Signals.SIGTERM, Signals.SIGTERM),
    ]


def answers(listener: socket.socket) -> bool:
    """Does the web server answer? What it says does not matter here."""
    host, port = listener.getsockname()[:2]
    with contextlib.closing(
        http.client.HTTPConnection(ANY.get(host, host), port, timeout=1)
    ) as server:
        try:
            server.request("GET", "/health/live")
            server.getresponse().read()
        except (OSError, http.client.HTTPException):
            return False
    return True
