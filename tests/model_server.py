"""A model server that a test scripts: Ollama's own calls, and chat as OpenAI's clients send it.

It answers from what it is asked, and takes nothing that it does not expect: such a request is
refused, and the test fails when the server is left.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from tests.model_protocol import Asked, Reply, Unexpected, read, status, tokens_of

Answer = Callable[[Asked], Reply]


@dataclass
class ModelServer:
    """Listens on loopback while it is entered; ``stop`` and ``start`` keep its port."""

    answer: Answer
    models: dict[str, int] = field(default_factory=lambda: {"coder": 1000, "reviewer": 500})
    """Name → size in bytes, of what has been pulled."""
    api_key: str = ""
    windows: dict[str, int] = field(default_factory=dict)
    """Name → ``num_ctx`` of the models derived here."""
    loaded: dict[str, str] = field(default_factory=dict)
    """Name → how long it is to be kept."""
    asked: list[Asked] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    """Requests by path."""
    pulled_at: str = "2026-04-01T10:00:00.123456789-07:00"
    """Of the models; what is derived here is made a month later."""
    keys: list[str] = field(default_factory=list)
    """The ``Authorization`` of each request."""
    unexpected: list[str] = field(default_factory=list)
    fails: Callable[[str], Reply | None] = lambda _path: None
    """What is answered on a path, whatever is asked; None: as usual."""

    def __post_init__(self) -> None:
        self._port = 0
        self._lock = threading.Lock()
        self._issued: set[str] = set()
        self._texts: set[str | None] = set()
        self.stopping = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        owner = self

        class Handler(_Handler):
            server_of_models = owner

        self.stopping.clear()
        self._http = _Listener(("127.0.0.1", self._port), Handler)
        self._port = self._http.server_port
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """As when it is killed: answers that are under way break off."""
        self.stopping.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if not self.stopping.is_set():
            self.stop()
        told = "\n".join(["The model server was asked what it does not expect:", *self.unexpected])
        if self.unexpected and error is not None:
            error.add_note(told)
        elif self.unexpected:
            raise AssertionError(told)

    # -- one request

    def reply_to(self, body: dict[str, Any], key: str) -> tuple[Reply, Asked | None]:
        if self.api_key and key != f"Bearer {self.api_key}":
            return status(401, "invalid API key"), None
        if body.get("model") not in {*self.models, *self.windows}:
            return status(404, f"model {body.get('model')!r} not found, try pulling it first"), None
        asked = read(body)
        with self._lock:
            self._refuse_foreign(asked.messages)
            self.asked.append(asked)
        return self.answer(asked), asked

    def _refuse_foreign(self, messages: Iterable[dict[str, Any]]) -> None:
        """Nobody may put words into the model's mouth."""
        for message in messages:
            if message["role"] != "assistant":
                continue
            for made in message.get("tool_calls") or ():
                if made["id"] not in self._issued:
                    raise Unexpected(f"the model never made the call {made}")
            if message.get("content") not in self._texts | {None, ""}:
                raise Unexpected(f"the model never said {message['content']!r}")

    def completion(self, reply: Reply, asked: Asked) -> dict[str, Any]:
        with self._lock:
            made = [
                {
                    "id": f"call_{len(self._issued) + index}",
                    "type": "function",
                    "function": {"name": tool, "arguments": arguments},
                }
                for index, (tool, arguments) in enumerate(reply.calls)
            ]
            self._issued.update(str(each["id"]) for each in made)
            self._texts.add(reply.text)
        message = {"role": "assistant", "content": reply.text, "tool_calls": made or None}
        read = asked.tokens if reply.prompt_tokens is None else reply.prompt_tokens
        written = tokens_of([reply.text, reply.calls])
        finish = "tool_calls" if made and reply.finish == "stop" else reply.finish
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": asked.model,
            "choices": [{"index": 0, "message": message, "finish_reason": finish}],
            "usage": {
                "prompt_tokens": read,
                "completion_tokens": written,
                "total_tokens": read + written,
            },
        }

    def own_call(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Ollama's own calls: https://github.com/ollama/ollama/blob/main/docs/api.md"""
        known = {*self.models, *self.windows}
        match path:
            case "/api/version":
                return 200, {"version": "0.13.0"}
            case "/api/tags":
                listed = [*self.models.items(), *((name, 1) for name in self.windows)]
                return 200, {"models": [self._listed(name, size) for name, size in listed]}
            case "/api/ps":
                return 200, {"models": [self._running(name) for name in self.loaded]}
            case "/api/create" if body["from"] in self.models:
                _expect({"model", "from", "parameters", "stream"}, body)
                self.windows[body["model"]] = body["parameters"]["num_ctx"]
                return 200, {"status": "success"}
            case "/api/generate" if body["model"] in known:
                _expect({"model", "stream", "keep_alive"}, body)
                self.loaded[body["model"]] = body.get("keep_alive", "5m")
                return 200, {"model": body["model"], "response": "", "done": True}
            case "/api/create" | "/api/generate":
                return 404, {"error": f"model '{body.get('from', body['model'])}' not found"}
            case "/v1/models":
                return 200, {"object": "list", "data": [{"id": name} for name in sorted(known)]}
        raise Unexpected(f"there is no {path}")

    def _listed(self, name: str, size: int) -> dict[str, Any]:
        pulled = self.pulled_at if name in self.models else "2026-05-01T10:00:00.123456789+02:00"
        return {"name": _full(name), "size": size, "modified_at": pulled}

    def _running(self, name: str) -> dict[str, Any]:
        until = "2030-01-01T00:00:00Z"
        window = self.windows.get(name, 4096)
        return {"name": _full(name), "size": 2000, "context_length": window, "expires_at": until}


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128


class _Handler(BaseHTTPRequestHandler):
    server_of_models: ModelServer

    def do_GET(self) -> None:
        self._handle({})

    def do_POST(self) -> None:
        self._handle(json.loads(self.rfile.read(int(self.headers["content-length"]))))

    def _handle(self, body: dict[str, Any]) -> None:
        models = self.server_of_models
        models.calls[self.path] += 1
        models.keys.append(self.headers.get("authorization", ""))
        try:
            if failing := models.fails(self.path):
                told = failing.status, failing.body or "", failing.content_type
                self._send(*told, failing.breaks)
            elif self.path == "/v1/chat/completions":
                self._chat(body)
            else:
                code, told = models.own_call(self.path, body)
                self._send(code, json.dumps(told), "application/json")
        except (BrokenPipeError, ConnectionResetError):
            pass  # whoever asked has given up, as some tests let it
        except Exception as error:  # noqa: BLE001 - also of the script: all of it fails the test
            models.unexpected.append(f"{self.path}: {error!r}\n{json.dumps(body)[:4000]}")
            self._send(400, json.dumps({"error": {"message": repr(error)}}), "application/json")

    def _chat(self, body: dict[str, Any]) -> None:
        reply, asked = self.server_of_models.reply_to(body, self.headers.get("authorization", ""))
        if reply.body is not None:
            self._send(reply.status, reply.body, reply.content_type)
            return
        assert asked is not None
        answer = json.dumps(self.server_of_models.completion(reply, asked))
        self._send(reply.status, answer, reply.content_type, reply.breaks)

    def _send(self, code: int, text: str, content_type: str, breaks: str = "") -> None:
        data = text.encode()
        if breaks == "never ends":
            self._send_for_ever(code, data, content_type)
            return
        self.send_response(code)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if breaks else data)
        self.wfile.flush()
        if breaks == "stalls":
            self.server_of_models.stopping.wait()

    def _send_for_ever(self, code: int, data: bytes, content_type: str) -> None:
        self.protocol_version = "HTTP/1.1"  # the first that has chunks
        self.close_connection = True
        self.send_response(code)
        self.send_header("content-type", content_type)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        chunk = b"".join((b"%x\r\n" % len(data), data, b"\r\n"))
        while not self.server_of_models.stopping.is_set():
            self.wfile.write(chunk)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as it is called
        pass


def _expect(keys: set[str], body: dict[str, Any]) -> None:
    if unknown := set(body) - keys:
        raise Unexpected(f"nobody is to send {sorted(unknown)}")


def _full(name: str) -> str:
    return name if ":" in name else f"{name}:latest"
