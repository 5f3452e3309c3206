"""A server process of a toy server: passes requests on, with the folder of its model. Imports nothing but Python's library.

python relay.py PORT MODEL DTYPE UPSTREAM [dies-at-once | hangs | dies-after=N]
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

port, model, dtype, upstream, *faults = sys.argv[1:]
fault = faults[0] if faults else ""
left = [int(fault.partition("=")[2])] if fault.startswith("dies-after") else [1 << 30]
print(f"loads {model}\n参数 weights", flush=True)
if fault == "dies-at-once":
    sys.exit("ValueError: unknown architecture")
if fault == "hangs":
    time.sleep(60)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])  # a worker, which must end with the server


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        document = b'{"data": [{"id": "the-model"}]}' if self.path.endswith("/models") else None
        self.answer("GET", None) if document is None else self.send(200, document)

    def do_POST(self) -> None:
        left[0] -= 1
        if left[0] < 0:
            print("CUDA out of memory", flush=True)
            os._exit(9)
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.answer("POST", json.dumps({**body, "folder": model, "dtype": dtype}))

    def answer(self, method: str, body: str | None) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", int(upstream))
        connection.request(method, self.path, body)
        response = connection.getresponse()
        self.send(response.status, response.read())

    def send(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


ThreadingHTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()
