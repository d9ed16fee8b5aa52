"""Checks the environment variables that the HTTP client reads: certificates, proxies and extra headers.

The client's own error for a bad value does not name the variable, and often comes only with the first request.
"""

from __future__ import annotations

import re
import ssl
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from flowrl.proposers.llm.credentials import custom_headers, unsendable
from flowrl.proposers.llm.errors import Misconfigured

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token of RFC 9110


def check_certificates(environ: Mapping[str, str]) -> None:
    """Checks that the certificate files can be read and the TLS key log can be written.

    Raises:
        Misconfigured: names the variable.
    """
    if key_log := environ.get("SSLKEYLOGFILE"):
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).keylog_filename = key_log
        except OSError as error:
            raise Misconfigured(
                f"SSLKEYLOGFILE: {key_log} cannot be written ({error.strerror}); correct it, or unset it"
            ) from None
    if file := environ.get("SSL_CERT_FILE"):
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=file)
        except OSError as error:
            raise Misconfigured(
                f"SSL_CERT_FILE: cannot read certificates from {file} ({_why(error)}); name a file of certificates in PEM "
                "format, or unset it"
            ) from None
    elif (folder := environ.get("SSL_CERT_DIR")) and not any(Path(name).is_dir() for name in folder.split(":")):
        raise Misconfigured(f"SSL_CERT_DIR: there is no folder {folder}; name the folder with the certificates, or unset it")


def check_proxies(environ: Mapping[str, str], try_out: Callable[[str], None]) -> None:
    """Checks that the HTTP client can use the proxies. A bad one stops the client, even if no request would use it.

    Args:
        try_out: makes a client for the proxy at this address, or raises an error.

    Raises:
        Misconfigured: names the variable; shows nothing of its value, which may hold a password.
    """
    for variable, url in proxies(environ):
        try:
            parts = urllib.parse.urlsplit(url)
            if parts.port == 0 or not parts.hostname:
                raise ValueError("no host, or no port")
            parts.hostname.encode("idna")
            try_out(url)
        except ImportError:
            raise Misconfigured(
                f"{variable} names a SOCKS proxy, but the package for SOCKS is missing; install it (pip install socksio), or "
                f"unset {variable}"
            ) from None
        except Exception:
            raise Misconfigured(
                f"{variable} does not name a usable proxy; write it like http://proxy:8080 or socks5://proxy:1080, or unset it"
            ) from None


def proxies(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Each variable that names a proxy, and the proxy's address, read as ``urllib`` and the HTTP client read them."""
    _, excepted = _variable("no_proxy", environ)
    if "*" in (host.strip() for host in excepted.split(",")):
        return
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        variable, value = _variable(name, environ)
        if value:
            yield variable, value if "://" in value else f"http://{value}"


def check_custom_headers(environ: Mapping[str, str]) -> None:
    """Checks that the extra headers can be sent.

    Raises:
        Misconfigured: names the variable and the header, but not the value, which may be a key.
    """
    for name, value in custom_headers(environ):
        if not _HEADER_NAME.fullmatch(name):
            raise Misconfigured(
                f"OPENAI_CUSTOM_HEADERS: {name!r} is not a header name; write NAME: VALUE, one header per line, or unset it"
            )
        if fault := unsendable(value.replace("\t", " ")):
            raise Misconfigured(f"OPENAI_CUSTOM_HEADERS: the value of {name} contains {fault}; correct it, or unset it")


def _variable(name: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """A variable and its value. The lower-case name takes precedence, even if it is empty; else any other case counts."""
    if name in environ:
        return name, environ[name]
    return next(((other, value) for other, value in environ.items() if other.lower() == name and value), (name, ""))


def _why(error: OSError) -> str:
    # An SSLError's reason is OpenSSL jargon; all other errors have the system's own message.
    return "it contains no certificates in PEM format" if isinstance(error, ssl.SSLError) else (error.strerror or str(error))
