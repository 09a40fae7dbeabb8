"""A real web server for tests of what is fetched from addresses."""

from __future__ import annotations

import ssl
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TLS = Path(__file__).parent / "tls"
WORDS = b"This is a shopping list: milk, bread, and a song.\n" * 200


class Site:
    """A web server on 127.0.0.1 with one song, by plain http or by TLS; it counts what it is asked for.

    Of /slow.wav it sends half and hangs; of /once.wav at the first request. /words.wav is no audio.
    """

    def __init__(self, song: bytes, *, tls: bool) -> None:
        self.asked: list[str] = []
        self.hanging = threading.Event()
        """A request is answered as far as it will be."""
        self.gone = threading.Event()
        """Whoever asked for it went away."""
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append(self.path)
                name = self.path.partition("?")[0]
                status = {"/away.wav": 503, "/missing.wav": 404}.get(name, 200)
                body = b"" if status != 200 else WORDS if name == "/words.wav" else song
                hangs = name == "/slow.wav" or (name == "/once.wav" and site.asked.count(self.path) == 1)
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with suppress(ConnectionError):
                    self.wfile.write(body[: len(body) // 2] if hangs else body)
                    if hangs:
                        site.hanging.set()
                        self.rfile.read()  # until the other side closes
                        site.gone.set()

            def log_message(self, *_: object) -> None:
                """Tests speak for themselves."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(TLS / "server.pem")
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"http{'s' * tls}://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
