"""Private message brokers on free ports, to be stopped and started again."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import pytest

from tests.patience import PATIENCE

START_SECONDS = PATIENCE


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def missing(what: str, how: str) -> None:
    """Fails in CI, skips elsewhere."""
    told = f"{what} is missing: {how}"
    if os.environ.get("CI"):
        pytest.fail(told)
    pytest.skip(told)


class Broker:
    """A server process of its own, in a folder of its own."""

    name: str
    environment: ClassVar[dict[str, str]] = {}
    """What its clients need to know besides its address."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        raise NotImplementedError

    def command(self) -> tuple[list[str], dict[str, str]]:
        """What to run, and the environment that it needs."""
        raise NotImplementedError

    def start(self) -> None:
        command, env = self.command()
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            log_text = (self.folder / f"{self.name}.log").read_text(errors="replace")
            assert self.process.poll() is None, f"{self.name} ended:\n{log_text}"
            assert time.monotonic() < deadline, f"{self.name} does not answer:\n{log_text}"
            time.sleep(0.05)

    def answers(self) -> bool:
        """Does it speak its protocol yet?"""
        raise NotImplementedError

    def asked(self, question: bytes, size: int) -> bytes:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as client:
                client.sendall(question)
                return client.recv(size)
        except OSError:
            return b""

    def freeze(self) -> None:
        """It hangs: connections are taken and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL to all of it."""
        if self.process is not None:
            self._signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def stop(self) -> None:
        """Nobody listens at its address, until it is started again."""
        self.kill()

    def restart(self) -> None:
        self.stop()
        self.start()

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, number)


class Redis(Broker):
    """Without persistence: a restart loses every message."""

    name = "redis"

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> tuple[list[str], dict[str, str]]:
        server = shutil.which("redis-server")
        if server is None:
            missing("Redis", "apt-get install redis-server")
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
                   "--appendonly", "no", "--dir", str(self.folder)]  # fmt: skip
        return [str(server), *options], {}

    def answers(self) -> bool:
        return self.asked(b"PING\r\n", 5) == b"+PONG"


class Sentinel(Redis):
    """One that watches a master and its replica, and makes that the master within a second."""

    name = "sentinel"
    environment: ClassVar[dict[str, str]] = {"CELERY_REDIS_MASTER": "watched"}

    def __init__(self, folder: Path) -> None:
        self.servers: list[Redis] = []
        try:
            for number in range(2):
                (folder / f"redis-{number}").mkdir()
                self.servers.append(Redis(folder / f"redis-{number}"))
            master = self.servers[0].port
            told = self.servers[1].asked(b"REPLICAOF 127.0.0.1 %d\r\n" % master, 100)
            assert told.startswith(b"+OK"), told
            (folder / "sentinel.conf").write_text(
                f"bind 127.0.0.1\nsentinel monitor watched 127.0.0.1 {master} 1\n"
                "sentinel down-after-milliseconds watched 500\n"
                "sentinel failover-timeout watched 2000\n"
            )
            super().__init__(folder)
        except BaseException:
            self.kill()
            raise

    @property
    def url(self) -> str:
        return f"sentinel://127.0.0.1:{self.port}"

    def command(self) -> tuple[list[str], dict[str, str]]:
        [server, *_], env = super().command()
        return [server, "sentinel.conf", "--sentinel", "--port", str(self.port)], env

    def answers(self) -> bool:
        """It knows the replica."""
        return b"slaves=1" in self.asked(b"INFO sentinel\r\n", 4096)

    def fail_over(self) -> None:
        """The master dies."""
        self.servers[0].kill()

    def kill(self) -> None:
        super().kill()
        for server in self.servers:
            server.kill()


SCHEDULING = "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none"
"""Of Erlang, which waits busily for work otherwise: a third of a core for a node at rest."""


class RabbitMQ(Broker):
    """A node of its own; its messages are on disk and survive a restart."""

    name = "rabbitmq"
    stopped = False
    SCRIPTS = ("/usr/lib/rabbitmq/bin/rabbitmq-server", "/usr/local/sbin/rabbitmq-server")

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    @property
    def _node(self) -> str:
        return f"oc-{self.port}@localhost"

    def command(self) -> tuple[list[str], dict[str, str]]:
        # Not Debian's wrapper in /usr/sbin, which runs as its own user in its own folders.
        script = next((path for path in self.SCRIPTS if Path(path).exists()), None)
        if script is None:
            missing("RabbitMQ", "apt-get install rabbitmq-server")
        (self.folder / "enabled_plugins").write_text("[].\n")
        (self.folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.local = 127.0.0.1:{self.port}\nlog.console = true\n"
        )
        return [str(script)], {
            "HOME": str(self.folder),
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "logs"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": SCHEDULING,
        }

    def evaluate(self, erlang: str) -> str:
        """Run an expression in the node; returns how Erlang writes what it gives.

        By Erlang's own tool: RabbitMQ's takes a second of a processor each time.
        """
        tool = shutil.which("erl_call")
        if tool is None:
            missing("erl_call", "apt-get install erlang-base")
        cookie = (self.folder / ".erlang.cookie").read_text()
        command = [str(tool), "-sname", self._node, "-c", cookie, "-fetch_stdout", "-e"]
        told = subprocess.run(
            command, input=f"{erlang}\n", check=True, capture_output=True, text=True
        ).stdout
        assert told.startswith("{ok, "), told
        return told.removeprefix("{ok, ").removesuffix("}")

    def queues(self) -> str:
        """The names of all that there are."""
        return self.evaluate("lists:sort(rabbit_amqqueue:list_names()).")

    def start(self) -> None:
        if self.stopped:
            self.evaluate("rabbit:start().")
            self.stopped = False
        else:
            super().start()

    def stop(self) -> None:
        """As its operator does: the node stays, which would take 5 s to start."""
        self.evaluate("rabbit:stop().")
        self.stopped = True

    def restart(self) -> None:
        """Every connection ends."""
        self.evaluate("rabbit:stop(), rabbit:start().")

    def kill(self) -> None:
        super().kill()
        self.stopped = False

    def answers(self) -> bool:
        # The header of AMQP 0-9-1; a node that is ready begins its handshake with a frame.
        return self.asked(b"AMQP\x00\x00\x09\x01", 1) == b"\x01"


class Sqs(Broker):
    """Amazon's, as moto answers for it."""

    name = "sqs"
    environment: ClassVar[dict[str, str]] = {"AWS_DEFAULT_REGION": "us-east-1"}

    @property
    def url(self) -> str:
        return f"sqs://key:secret@127.0.0.1:{self.port}"

    def command(self) -> tuple[list[str], dict[str, str]]:
        serve = "import sys; from moto.server import main; main(sys.argv[1:])"
        return [sys.executable, "-c", serve, "-H", "127.0.0.1", "-p", str(self.port)], {}

    def answers(self) -> bool:
        return self.asked(b"GET /moto-api/ HTTP/1.0\r\n\r\n", 8) == b"HTTP/1.1"
