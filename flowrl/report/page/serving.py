"""``flowrl report --serve``: the page over HTTP, for this machine alone, as the experiment goes on."""

from __future__ import annotations

import mimetypes
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from flowrl.errors import BadInput, FlowrlError
from flowrl.paths import ExperimentPaths
from flowrl.report.page.facts import gather
from flowrl.report.page.writing import page
from flowrl.report.status import snapshot

HOST = "127.0.0.1"
_KNOWN_HOSTS = ("127.0.0.1", "localhost")
_FILM_TYPES = (".mp4", ".webp", ".gif")


def serve(paths: ExperimentPaths, port: int, say: Callable[[str], None]) -> None:
    """Serves until it is interrupted.

    Args:
        port: 0 takes a free one.

    Raises:
        BadInput: the folder is no experiment, or the port is taken.
    """
    with server(paths, port) as serving:
        say(f"http://{HOST}:{serving.server_port}/ shows {paths.root} as it goes on; Ctrl-C ends this")
        serving.serve_forever()


def server(paths: ExperimentPaths, port: int) -> ThreadingHTTPServer:
    """A server that is bound, and not yet serving.

    Raises:
        BadInput: the folder is no experiment, or the port is taken.
    """
    snapshot.take(paths)  # or say at once what is wrong
    pages = _Pages(paths)
    handler = type("Handler", (_Handler,), {"pages": pages})
    try:
        return ThreadingHTTPServer((HOST, port), handler)
    except (OSError, OverflowError) as error:
        raise BadInput(f"--port {port} cannot be used ({error}); choose another, or 0 for a free one") from None


class _Pages:
    """The page as the folder is now, made anew only once something in the folder has changed."""

    def __init__(self, paths: ExperimentPaths):
        self.paths = paths
        self._lock = threading.Lock()
        self._made: tuple[str, str] | None = None

    def stamp(self) -> str:
        """Changes whenever the page would."""
        paths = self.paths
        watched = [paths.state, paths.evaluation, paths.config, *paths.training_runs.glob("*/metrics.jsonl")]
        return "-".join(f"{stat.st_mtime_ns:x}.{stat.st_size:x}" for path in watched if (stat := _stat(path)))

    def page(self) -> str:
        with self._lock:
            stamp = self.stamp()
            if self._made is None or self._made[0] != stamp:
                self._made = stamp, page(gather(self.paths), is_live=True)
            return self._made[1]

    def film(self, name: str) -> Path | None:
        """A film of the report; None for anything else."""
        path = self.paths.report / "films" / Path(name).name
        return path if path.suffix in _FILM_TYPES and path.is_file() else None


def _stat(path: Path):
    try:
        return path.stat()
    except OSError:
        return None


class _Handler(BaseHTTPRequestHandler):
    pages: _Pages

    def do_GET(self) -> None:
        host = (self.headers.get("Host") or "").rpartition(":")[0] or self.headers.get("Host")
        if host not in _KNOWN_HOSTS:  # another site's name that leads here: it must not read the page
            return self._answer(HTTPStatus.FORBIDDEN, "text/plain", b"only this machine may ask")
        path = self.path.partition("?")[0]
        try:
            if path in ("/", "/index.html"):
                return self._answer(HTTPStatus.OK, "text/html; charset=utf-8", self.pages.page().encode())
            if path == "/stamp":
                return self._answer(HTTPStatus.OK, "text/plain", self.pages.stamp().encode())
            if path.startswith("/films/") and (film := self.pages.film(path)):
                kind = mimetypes.guess_type(film.name)[0] or "application/octet-stream"
                return self._answer(HTTPStatus.OK, kind, film.read_bytes())
        except FlowrlError as error:  # half of the folder is gone: the next request may find it whole
            return self._answer(HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", str(error).encode())
        return self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"there is nothing here")

    def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_) -> None:
        """A person watches the page, not a list of its requests."""
