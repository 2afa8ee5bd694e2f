"""A stand-in for samplers: says what a test tells it to, in pieces, and breaks off where it is told to."""

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Fake:
    """`says` maps a model's name to pieces; `raw` to a whole answer (status, headers, body)."""

    url: str = ""
    says: dict[str, list[str]] = field(default_factory=dict)
    raw: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)
    breaks: set[str] = field(default_factory=set)
    holds: dict[str, threading.Event] = field(default_factory=dict)
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    default: list[str] = field(default_factory=lambda: ["Of ", "course", "!"])


def chunk(text: str, reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": reason}
    return f"data: {json.dumps({'choices': [choice]})}\n\n".encode()


@contextlib.contextmanager
def running_fake() -> Iterator[Fake]:
    """A fake on a port of its own."""
    fake = Fake()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            fake.asked.append(body)
            fake.keys.append(self.headers.get("Authorization"))
            model = body["model"]
            if model in fake.raw:
                status, headers, content = fake.raw[model]
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            for number, piece in enumerate(fake.says.get(model, fake.default)):
                self.wfile.write(chunk(piece))
                self.wfile.flush()
                if number == 0 and model in fake.holds:
                    fake.holds[model].wait(30)
            if model not in fake.breaks:
                self.wfile.write(chunk("", "stop") + b"data: [DONE]\n\n")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        for hold in fake.holds.values():
            hold.set()
        server.shutdown()
        server.server_close()
