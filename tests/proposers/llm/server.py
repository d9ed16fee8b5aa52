"""An OpenAI-compatible server on this machine, which does what a test scripts and nothing else."""

from __future__ import annotations

import json
import ssl
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import Message as Headers
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from flowrl.proposers.llm import prompts

FORMS = frozenset({"json_schema", "json_object", "tool_call"})
FORM_CHECK_ANSWER = {
    "name": "", "description": "", "requires": [], "consumes": [], "gains": [], "reward_menu": None, "task_is_done": None,
    "task_reward": None,
}  # fmt: skip


@dataclass(frozen=True)
class Say:
    """An answer that is valid in the protocol."""

    text: str
    finish_reason: str = "stop"
    prompt_tokens: int = 1000
    completion_tokens: int = 100
    refusal: str | None = None
    without_usage: bool = False


@dataclass(frozen=True)
class Message:
    """A valid answer with this message."""

    content: Any


@dataclass(frozen=True)
class Status:
    """An HTTP error."""

    code: int
    message: str = "planted"
    error_code: str | None = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Body:
    """HTTP 200 with any body."""

    content: bytes
    content_type: str = "application/json"


@dataclass(frozen=True)
class Hang:
    """No answer until the server closes."""


@dataclass(frozen=True)
class Drip:
    """An endless answer that arrives byte by byte."""


@dataclass(frozen=True)
class Drop:
    """The connection is closed without an answer."""


Reply = Say | Message | Status | Body | Hang | Drip | Drop


def skill_json(name: str, gain: str = "wood", /, **changes: Any) -> str:
    """A skill that passes the checks, in the format of the schema."""
    skill = {
        "name": name,
        "description": f"Hold n of {gain}.",
        "requires": [],
        "consumes": [],
        "gains": [{"resource": gain, "per": 1, "fixed": 0}],
        "reward_menu": [
            {"term": "gain", "target": gain, "weight": 1.0},
            {"term": "avoid_damage", "target": None, "weight": 1.0},
        ],
        "task_is_done": None,
        "task_reward": None,
    }
    return json.dumps(skill | changes)


class ModelServer:
    """The server. It sends ``replies`` in turn, and answers the form check by itself.

    Args:
        forms: the forms of JSON it supports; requests for others get ``incapable``, or the form is ignored if that is None.
        models: the model names it knows; None for any.
        key: the key it accepts; None for any.
        tokens: the parameter names it accepts for the token limit.
        is_encrypted: uses https, with a self-signed certificate.
    """

    CERTIFICATE = Path(__file__).with_name("localhost.pem")

    def __init__(self, forms=FORMS, incapable: Reply | None = Status(400, "response_format is not supported"), models=None,
                 key=None, tokens=("max_tokens", "max_completion_tokens"), is_encrypted=False):  # fmt: skip
        self.scheme = "https" if is_encrypted else "http"
        self.forms, self.incapable, self.models, self.key, self.tokens = forms, incapable, models, key, tokens
        self.replies: deque[Reply] = deque()
        self.before_form_check: deque[Reply] = deque()
        self.answerer: Callable[[dict], Reply] | None = None
        self.requests: list[dict] = []
        """Bodies of all requests."""
        self.keys: list[str | None] = []
        self.headers: list[Headers] = []
        self.surprises: list[str] = []
        self.closing = threading.Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        if is_encrypted:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.CERTIFICATE)
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self._http.server_address[1]}/v1"

    @property
    def questions(self) -> list[dict]:
        """The requests that are not form checks."""
        return [request for request in self.requests if not is_form_check(request)]

    def script(self, *replies: Reply) -> None:
        self.replies.extend(replies)

    def close(self) -> None:
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()

    def reply_to(self, path: str, key: str | None, request: dict) -> Reply:
        self.requests.append(request)
        self.keys.append(key)
        if path != "/v1/chat/completions":
            return Status(404, f"no {path}")
        if self.key is not None and key != self.key:
            return Status(401, f"Incorrect API key provided: {key}", "invalid_api_key")
        if self.models is not None and request["model"] not in self.models:
            return Status(404, f"The model `{request['model']}` does not exist", "model_not_found")
        if unknown := [name for name in request if name.endswith("_tokens") and name not in self.tokens]:
            return Status(
                400, f"Unsupported parameter: '{unknown[0]}' is not supported with this model.", "unsupported_parameter"
            )
        form = form_of(request)
        if form is not None and form not in self.forms:
            if self.incapable is not None:
                return self.incapable
            form = None
        if is_form_check(request):
            if self.before_form_check:
                return self.before_form_check.popleft()
            return Say(json.dumps(FORM_CHECK_ANSWER) if form else "I am ready.", completion_tokens=10, prompt_tokens=100)
        if self.answerer is not None:
            return self.answerer(request)
        if self.replies:
            return self.replies.popleft()
        self.surprises.append(f"an unexpected question: {request['messages'][-1]['content'][:200]}")
        return Status(400, "nothing was scripted for this question")


def is_form_check(request: dict) -> bool:
    return request["messages"][0]["content"].startswith(prompts.render("form_check"))


def form_of(request: dict) -> str | None:
    """The form in which a request asks for JSON."""
    if "tools" in request:
        return "tool_call"
    return request.get("response_format", {}).get("type")


def completion(request: dict, say: Say | Message) -> bytes:
    if isinstance(say, Message):
        return _completion(request, say.content, "stop", {})
    message: dict[str, Any] = {"role": "assistant", "content": say.text, "refusal": say.refusal}
    if form_of(request) == "tool_call":
        name = request["tool_choice"]["function"]["name"]
        message |= {
            "content": None,
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": name, "arguments": say.text}}],
        }
    usage = {
        "prompt_tokens": say.prompt_tokens, "completion_tokens": say.completion_tokens,
        "total_tokens": say.prompt_tokens + say.completion_tokens, "prompt_tokens_details": {"cached_tokens": 0},
    }  # fmt: skip
    return _completion(request, message, say.finish_reason, {} if say.without_usage else {"usage": usage})


def _completion(request: dict, message: Any, finish_reason: str, usage: dict) -> bytes:
    return json.dumps(
        {
            "id": "c", "object": "chat.completion", "created": 0, "model": request["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": finish_reason, "logprobs": None}],
            **usage,
        }
    ).encode()  # fmt: skip


def _handler(server: ModelServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            server.headers.append(self.headers)
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            key = (self.headers["Authorization"] or "").removeprefix("Bearer ") or None
            match server.reply_to(self.path, key, request):
                case Say() | Message() as say:
                    self.send(200, completion(request, say))
                case Status() as status:
                    error = {"message": status.message, "code": status.error_code, "type": "error", "param": None}
                    self.send(status.code, json.dumps({"error": error}).encode(), **status.headers)
                case Body() as body:
                    self.send(200, body.content, content_type=body.content_type)
                case Hang():
                    server.closing.wait()
                    self.close_connection = True
                case Drip():
                    self.drip()
                case Drop():
                    self.close_connection = True

        def drip(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            try:
                while not server.closing.wait(0.05):
                    self.wfile.write(b" ")
                    self.wfile.flush()
            except OSError:
                pass
            self.close_connection = True

        def send(self, code: int, content: bytes, content_type: str = "application/json", **headers: str) -> None:
            self.send_response(code)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(content)))
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: Any) -> None:
            pass

    return Handler
