"""Chat completions over HTTP. The only module that imports ``openai``.

The package's own retries are off: :mod:`flowrl.proposers.llm.endpoint` decides what to retry and when. This module sorts
its errors by what to do about them.
"""

from __future__ import annotations

import email.utils
import json
import queue
import re
import threading
import time
from collections.abc import Mapping
from typing import Any

from flowrl.proposers.llm.credentials import Secrets, unsendable
from flowrl.proposers.llm.errors import InvalidRequest, Misconfigured, Transient
from flowrl.proposers.llm.http_environment import check_certificates, check_custom_headers, check_proxies
from flowrl.proposers.llm.settings import LlmSettings

_NO_KEY = "none"  # the package requires a key; servers without keys ignore it
_NO_MODEL = re.compile(
    r"model.{0,80}(not found|not exist|unknown|not available|not supported|no such)|(unknown|no such|invalid) model",
    re.IGNORECASE | re.DOTALL,
)
_UNTRUSTED = "CERTIFICATE_VERIFY_FAILED"


class Connection:
    """The client of one server.

    Args:
        secrets: hidden in all messages.
        environ: the environment that the ``openai`` package and its HTTP client also read.

    Raises:
        Misconfigured: no client can be made with this address or environment; names the variable.
    """

    def __init__(self, settings: LlmSettings, secrets: Secrets, environ: Mapping[str, str]):
        self.settings = settings
        self._secrets = secrets
        self._client = self._make_client(environ)

    def complete(self, request: dict[str, Any], limit_s: float) -> Any:
        """The package's chat completion, or text if the server does not answer with JSON.

        Args:
            limit_s: time limit for the whole answer, even if it arrives byte by byte.

        Raises:
            Transient: a retry may work.
            InvalidRequest: the server rejects this request.
            Misconfigured: the key, the model, the address or an environment variable is wrong.
        """
        results: queue.SimpleQueue = queue.SimpleQueue()

        def call() -> None:
            try:
                results.put((self._client.chat.completions.create(**request, timeout=limit_s), None))
            except BaseException as error:
                results.put((None, error))

        threading.Thread(target=call, name="language model", daemon=True).start()
        try:
            completion, error = results.get(timeout=limit_s)
        except queue.Empty:
            raise Transient(f"no answer within {limit_s:g} s") from None
        if error is not None:
            raise self._sorted(error, limit_s) from None
        return completion

    def line(self, text: str) -> str:
        """A text from the server as one short line without secrets."""
        line = printable(self._secrets.hide(text))
        return line if len(line) <= 300 else f"{line[:300]}..."

    def _make_client(self, environ: Mapping[str, str]) -> Any:
        import openai

        check_certificates(environ)
        check_proxies(environ, try_out=lambda url: openai.DefaultHttpxClient(proxy=url, trust_env=False, verify=False).close())
        check_custom_headers(environ)
        try:
            return openai.OpenAI(
                api_key=self.settings.key or _NO_KEY,
                base_url=self.settings.base_url,
                organization=_header_of("OPENAI_ORG_ID", environ),
                project=_header_of("OPENAI_PROJECT_ID", environ),
                max_retries=0,
            )
        except Misconfigured:
            raise
        except Exception as error:  # anything else that the package or its HTTP client rejects
            raise Misconfigured(
                f"no client can be made for {self.settings.base_url} ({self.line(str(error))}); correct "
                f"{self.settings.address_from}, or the proxy and certificate variables in the environment"
            ) from None

    # Errors.

    def _sorted(self, error: BaseException, limit_s: float) -> BaseException:
        """The package's error as one of ours; anything unrelated to the server or the request is returned unchanged."""
        import openai

        match error:
            case openai.APITimeoutError():
                return Transient(f"no answer within {limit_s:g} s")
            case openai.APIConnectionError():
                return self._by_cause(error.__cause__ or error)
            case openai.APIStatusError():
                return self._by_status(error)
            case json.JSONDecodeError() | openai.APIResponseValidationError():
                return Transient("the server's answer was incomplete")
            case ValueError() | ArithmeticError() | OSError() | openai.OpenAIError():
                return Misconfigured(
                    f"no request can be sent to {self.settings.base_url} ({type(error).__name__}: {self.line(str(error))}); "
                    f"correct {self.settings.address_from}, or the proxy variables in the environment"
                )
        return error

    def _by_cause(self, cause: BaseException) -> Exception:
        said, address = self.line(str(cause)), self.settings.base_url
        if _UNTRUSTED in said:
            return Misconfigured(
                f"the certificate of {address} is not trusted ({said}); set SSL_CERT_FILE to a file with the certificates of "
                "its authority"
            )
        return Transient(f"{address}: {said}", is_absent="onnect" in type(cause).__name__)

    def _by_status(self, error: Any) -> Exception:
        model, address = self.settings.model, self.settings.base_url
        said = self.line(_said(error))
        match error.status_code:
            case 401:
                remedy = "set OPENAI_API_KEY to a valid key" if self.settings.key else "set OPENAI_API_KEY"
                return Misconfigured(f"{address} rejects the key ({said}); {remedy}, or use --proposer curriculum")
            case 403:
                return Misconfigured(f"{address} does not let this key use {model} ({said}); choose another --llm_name or key")
            case 400 | 404 | 422 if _names_no_model(error, said):
                return Misconfigured(f"{address} does not know the model {model} ({said}); correct --llm_name")
            case 404 | 405:
                return Misconfigured(
                    f"{address} has no /chat/completions endpoint (HTTP {error.status_code}); correct "
                    f"{self.settings.address_from} (it usually ends in /v1)"
                )
            case 429 if error.code in ("insufficient_quota", "billing_hard_limit_reached"):
                return Misconfigured(f"the account at {address} has no credit left ({said}); add some, or use another key")
            case 402:
                return Misconfigured(f"the account at {address} has no credit left ({said}); add some, or use another key")
            case 408 | 409 | 429:
                return Transient(f"HTTP {error.status_code}: {said}", retry_after_s(error.response.headers))
            case status if status >= 500:
                after_s = retry_after_s(error.response.headers)
                return Transient(f"HTTP {status}: {said}", after_s, is_internal=status in (500, 501))
        return InvalidRequest(f"HTTP {error.status_code}: {said}")


def printable(text: str) -> str:
    """A text from outside as one line that is safe to print on a terminal."""
    return "".join(character if character.isprintable() else "?" for character in " ".join(text.split()))


def retry_after_s(headers: Any) -> float | None:
    """The delay that ``Retry-After`` asks for, given in seconds, as a date, or in milliseconds (``retry-after-ms``)."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) / unit)
        except (KeyError, ValueError):
            continue
    date = email.utils.parsedate_tz(headers.get("retry-after", ""))
    return None if date is None else max(0.0, email.utils.mktime_tz(date) - time.time())


def _header_of(variable: str, environ: Mapping[str, str]) -> str | None:
    """A variable as the package sends it, without surrounding white space; None if it is not set."""
    value = environ.get(variable)
    if value is not None and (fault := unsendable(value.strip())):
        raise Misconfigured(f"{variable} contains {fault}, but is sent in an HTTP header; correct it, or unset it")
    return value if value is None else value.strip()


def _said(error: Any) -> str:
    body = error.body
    if isinstance(body, dict):
        body = body.get("message") or body.get("detail") or body
    return str(body or error.message)


def _names_no_model(error: Any, said: str) -> bool:
    return error.code in ("model_not_found", "invalid_model") or bool(_NO_MODEL.search(said))
