"""A provider whose every text tries to become markup of the page."""

import json
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from support import openai

ATTACK = '</script><script>window.broken=1</script><img src=x onerror="window.broken=1"><b id="broken">'
MODEL = '"><img/src=x/onerror=window.broken=1>'
NAME = f"Nice {ATTACK}"
LONG = "w" * 3000
REJECTED = f"No: {ATTACK}"


class HostileHandler(BaseHTTPRequestHandler):
    """Lists one model, completes every request with an attack, and rejects the model `rejected`."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        model = {"id": MODEL, "object": "model", "display_name": NAME, "organization": ATTACK, "type": ATTACK}
        self.send(200, "application/json", json.dumps([model]))

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if body["model"] == "rejected":
            error = {"message": REJECTED, "type": "invalid_request_error", "code": ATTACK}
            self.send(400, "application/json", json.dumps({"error": error}))
            return
        deltas = [{"role": "assistant", "reasoning": ATTACK}, {"content": ATTACK}, {"content": LONG}]
        chunks = [openai.chunk(delta=delta, model=MODEL) for delta in deltas]
        last = openai.chunk(delta={}, finish_reason="stop", model=MODEL)
        events = b"".join(openai.event(data) for data in (*chunks, last, openai.DONE))
        self.send(200, "text/event-stream", events.decode())

    def send(self, status, media_type, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("content-type", media_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        """Log nothing."""


class HostileProvider(AbstractContextManager):
    """Serves as long as its context is open."""

    def __init__(self):
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), HostileHandler)
        self.thread = Thread(target=self.server.serve_forever, args=(0.05,))
        self.base_url = f"http://127.0.0.1:{self.server.server_port}/v1"
        self.thread.start()

    def __exit__(self, *failure):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
