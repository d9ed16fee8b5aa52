"""Environment variables that the HTTP client reads: which values are accepted, and the messages about the others."""

from __future__ import annotations

import urllib.request

import pytest

from flowrl.proposers.llm.connection import Connection
from flowrl.proposers.llm.credentials import Secrets
from flowrl.proposers.llm.errors import Misconfigured
from flowrl.proposers.llm.http_environment import check_certificates, check_custom_headers, check_proxies, proxies
from flowrl.proposers.llm.settings import LlmSettings
from tests.proposers.llm.server import Say


@pytest.fixture
def connect(tmp_path, monkeypatch):
    """Makes a client for an address, with only these of the variables that it reads."""
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)

    def make(url="http://127.0.0.1:9/v1", key=None, **environ) -> Connection:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        settings = LlmSettings("model-a", url, tmp_path / "llm", key=key, address_from="OPENAI_BASE_URL")
        return Connection(settings, Secrets(key, environ), environ)

    return make


def test_a_valid_environment_is_accepted(connect, tmp_path):
    connect(
        HTTP_PROXY="proxy:8080", HTTPS_PROXY="https://me:pass@proxy", SSL_CERT_DIR=str(tmp_path), OPENAI_ORG_ID=" org ",
        OPENAI_CUSTOM_HEADERS="X-Team: a\tb\n\nnot a header", SSLKEYLOGFILE=str(tmp_path / "keys"),
    )  # fmt: skip


def test_white_space_around_header_values_is_dropped(connect, server):
    server.script(Say("ok"))
    connection = connect(url=server.url, key="k", OPENAI_ORG_ID="org-1\n", OPENAI_PROJECT_ID=" proj ", NO_PROXY="*")
    request = {"model": "model-a", "messages": [{"role": "user", "content": "go"}]}
    assert connection.complete(request, limit_s=10).choices[0].message.content == "ok"
    assert (server.headers[0]["OpenAI-Organization"], server.headers[0]["OpenAI-Project"]) == ("org-1", "proj")


def test_a_file_without_certificates_is_an_error(tmp_path):
    (tmp_path / "bundle.pem").write_text("nothing of the kind")
    with pytest.raises(Misconfigured, match="SSL_CERT_FILE: .*bundle.pem .it contains no certificates in PEM format"):
        check_certificates({"SSL_CERT_FILE": str(tmp_path / "bundle.pem")})
    with pytest.raises(Misconfigured, match="SSL_CERT_FILE: "):
        check_certificates({"SSL_CERT_FILE": str(tmp_path)})


def test_a_folder_of_certificates_counts_only_without_a_file(tmp_path):
    check_certificates({"SSL_CERT_DIR": f"/nowhere:{tmp_path}"})
    check_certificates({"SSL_CERT_DIR": "/nowhere", "SSL_CERT_FILE": _bundle()})


@pytest.mark.parametrize(
    "environ",
    [
        {"HTTP_PROXY": "http://a:1", "http_proxy": "http://b:2", "ALL_PROXY": "c:3"},
        {"HTTPS_PROXY": "http://a:1", "https_proxy": ""},
        {"Https_Proxy": "http://a:1", "FTP_PROXY": "http://b:2"},
        {},
    ],
)
def test_proxies_are_read_as_python_reads_them(monkeypatch, environ):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        for spelling in (name, name.lower()):
            monkeypatch.delenv(spelling, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    found = urllib.request.getproxies_environment()
    expected = [found[scheme] for scheme in ("http", "https", "all") if scheme in found]
    assert [url for _, url in proxies(environ)] == [url if "://" in url else f"http://{url}" for url in expected]
    assert all(environ[name] for name, _ in proxies(environ))


@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
def test_proxies_are_not_checked_if_no_proxy_excludes_every_host(name):
    assert list(proxies({"ALL_PROXY": "socks://x", name: "localhost, *"})) == []


@pytest.mark.parametrize(
    ("line", "named"), [("é: b", "'é' is not"), ("two words: b", "'two words' is not"), (": b", "'' is not")]
)
def test_a_header_that_cannot_be_sent_is_named(line, named):
    with pytest.raises(Misconfigured, match=f"OPENAI_CUSTOM_HEADERS: {named} a header name; write NAME: VALUE"):
        check_custom_headers({"OPENAI_CUSTOM_HEADERS": f"X-Team: a\n{line}"})


@pytest.mark.parametrize("url", ["http://", "http://proxy:0", "http://a..b:1", "http://[::1", "http://pro\rxy"])
def test_an_unusable_proxy_is_an_error(url):
    with pytest.raises(Misconfigured, match="^ALL_PROXY does not name a usable proxy"):
        check_proxies({"ALL_PROXY": url}, try_out=_as_the_client_does)


def test_an_address_that_only_the_client_rejects_is_an_error_that_names_its_source(connect):
    with pytest.raises(Misconfigured, match=r"no client can be made for http://1.2.3.999/v1 .*correct OPENAI_BASE_URL"):
        connect("http://1.2.3.999/v1")


def test_an_untrusted_certificate_is_an_error_at_once(connect, make_server):
    server = make_server(is_encrypted=True)
    request = {"model": "model-a", "messages": [{"role": "user", "content": "go"}]}
    with pytest.raises(Misconfigured, match="certificate of https.* is not trusted .*SSL_CERT_FILE"):
        connect(server.url).complete(request, limit_s=10)
    server.script(Say("ok"))
    trusting = connect(server.url, SSL_CERT_FILE=str(server.CERTIFICATE))
    assert trusting.complete(request, limit_s=10).choices[0].message.content == "ok"


def _as_the_client_does(url: str) -> None:
    import openai

    openai.DefaultHttpxClient(proxy=url, trust_env=False, verify=False).close()


def _bundle() -> str:
    from tests.proposers.llm.server import ModelServer

    return str(ModelServer.CERTIFICATE)
