"""The real client against a real server, with all the ways in which servers differ or fail."""

from __future__ import annotations

import socket
import time
from email.utils import formatdate

import pytest

from flowrl.proposers.llm import endpoint as endpoint_module
from flowrl.proposers.llm.answer_forms import AnswerForm
from flowrl.proposers.llm.connection import retry_after_s
from flowrl.proposers.llm.credentials import Secrets
from flowrl.proposers.llm.endpoint import WITHHELD, Endpoint, Patience, Question, pauses
from flowrl.proposers.llm.errors import Misconfigured, Unreachable
from flowrl.proposers.llm.proposal import schema
from flowrl.proposers.llm.settings import LlmSettings
from tests.proposers.llm.server import Body, Drip, Drop, Hang, Say, Status

KEY = "a-key-nobody-may-see"
QUESTION = Question(
    ({"role": "system", "content": "rules"}, {"role": "user", "content": "go"}), schema(["gain"]), max_tokens=4000
)


@pytest.fixture
def make_endpoint(tmp_path, clock):
    """Makes an endpoint that logs to ``lines``; it asks for plain text by default."""

    def make(server, form=AnswerForm.TEXT, timeout_s=60.0, key=KEY, url=None) -> Endpoint:
        settings = LlmSettings("model-a", url or server.url, tmp_path / "llm", key=key, timeout_s=timeout_s)
        found = Endpoint(settings, Secrets(key, {}), log=lambda line: found.lines.append(line), clock=clock)
        found.lines = []
        found.form = form
        return found

    return make


@pytest.mark.parametrize("form", AnswerForm)
def test_an_answer_is_read_in_every_form(server, make_endpoint, form):
    server.script(Say('{"name": "X"}', prompt_tokens=12, completion_tokens=3))
    answer = make_endpoint(server, form).ask(QUESTION)
    assert (answer.text, answer.finish_reason, answer.form) == ('{"name": "X"}', "stop", form)
    assert (answer.usage.prompt, answer.usage.completion) == (12, 3)
    request = server.requests[0]
    assert ("JSON schema" in request["messages"][0]["content"]) == (form in (AnswerForm.OBJECT, AnswerForm.TEXT))
    assert not {"n", "temperature", "seed", "stream"} & request.keys()


def test_only_the_first_of_several_choices_is_used(server, make_endpoint):
    content = b'{"id":"c","object":"chat.completion","created":0,"model":"m","choices":[%s,%s]}' % tuple(
        b'{"index":%d,"finish_reason":"stop","message":{"role":"assistant","content":"%s"}}' % (i, text)
        for i, text in enumerate((b"first", b"second"))
    )
    server.script(Body(content))
    answer = make_endpoint(server).ask(QUESTION)
    assert answer.text == "first"
    assert answer.usage.is_estimated and answer.usage.completion > 0  # this server does not count


def test_too_many_requests_are_retried_after_the_delay_that_the_server_asks_for(server, make_endpoint, clock):
    server.script(Status(429, "slow down", headers={"Retry_After": "7"}), Say("ok"))
    endpoint = make_endpoint(server)
    answer = endpoint.ask(QUESTION)
    assert answer.text == "ok"
    assert clock.pauses == [7.0]
    assert answer.failed_tries == ("HTTP 429: slow down",)
    assert any("429" in line for line in endpoint.lines)


def test_a_server_that_asks_for_too_long_a_delay_is_given_up(server, make_endpoint, clock):
    server.script(Status(429, "slow down", headers={"Retry_After": "3600"}))
    with pytest.raises(Unreachable, match="3600 s.*--llm_timeout_s"):
        make_endpoint(server).ask(QUESTION)
    assert clock.pauses == []


@pytest.mark.parametrize("trouble", [Status(500), Status(502), Status(503), Status(504), Status(408), Drop(), Body(b"{")])
def test_transient_failures_are_retried_with_growing_pauses(server, make_endpoint, clock, trouble):
    server.script(trouble, trouble, trouble, Say("ok"))
    assert make_endpoint(server, form=AnswerForm.SCHEMA).ask(QUESTION).text == "ok"
    bounds = [(0.5, 1.0), (1.0, 2.0), (2.0, 4.0)]
    assert len(clock.pauses) == 3
    assert all(low <= pause <= high for pause, (low, high) in zip(clock.pauses, bounds))


def test_retries_end_within_the_time_limit(server, make_endpoint, clock):
    server.answerer = lambda request: Status(503, "busy")
    with pytest.raises(Unreachable, match=r"no answer from model-a at http.*tries.*503.*run the command again"):
        make_endpoint(server, timeout_s=20).ask(QUESTION)
    assert 0 < sum(clock.pauses) < 20


@pytest.mark.parametrize("silence", [Hang(), Drip()])
def test_a_server_that_hangs_is_asked_a_second_time(server, make_endpoint, silence, monkeypatch):
    monkeypatch.setattr(endpoint_module, "FIRST_PAUSE_S", 0.1)  # leaves time for a second try, however busy the machine is
    server.script(silence, Say("ok"))
    assert make_endpoint(server, timeout_s=2.0).ask(QUESTION).failed_tries == ("no answer within 1 s",)


def test_a_server_that_only_hangs_is_given_up(server, make_endpoint):
    server.answerer = lambda request: Hang()
    with pytest.raises(Unreachable, match="no answer within 0.15 s"):
        make_endpoint(server, timeout_s=0.3).ask(QUESTION)


@pytest.mark.parametrize("code", [400, 422])
def test_an_invalid_request_is_never_sent_again_unchanged(server, make_endpoint, clock, code):
    server.answerer = lambda request: Status(code, "no such thing")
    with pytest.raises(Misconfigured, match="no such thing"):
        make_endpoint(server, form=AnswerForm.SCHEMA).ask(QUESTION)
    assert clock.pauses == []
    forms = [
        str(sorted(request.keys() & {"response_format", "tools"})) + str(request.get("response_format"))
        for request in server.requests
    ]
    assert len(forms) == len(set(forms)) == 4


def test_a_form_that_is_rejected_later_is_replaced_by_the_next(make_server, make_endpoint):
    server = make_server(forms={"json_object"})
    server.script(Say("ok"))
    endpoint = make_endpoint(server, form=AnswerForm.SCHEMA)
    assert endpoint.ask(QUESTION).form is AnswerForm.OBJECT
    assert endpoint.form is AnswerForm.OBJECT


@pytest.mark.parametrize(("taken", "first"), [("max_completion_tokens", "max_tokens"), ("max_tokens", "max_completion_tokens")])
def test_the_name_of_the_token_limit_is_found_out(make_server, make_endpoint, taken, first):
    server = make_server(tokens=(taken,))
    server.script(Say("ok"), Say("ok"))
    endpoint = make_endpoint(server)
    endpoint.tokens_parameter = first
    for _ in range(2):
        endpoint.ask(QUESTION)
    assert [taken in request for request in server.requests] == [False, True, True]


def test_a_smaller_context_gets_a_smaller_limit(server, make_endpoint):
    def answer(request):
        if request["max_tokens"] > 1200:
            return Status(400, f"'max_tokens' is too large: {request['max_tokens']}. The maximum context length is 4096 tokens")
        return Say("ok")

    server.answerer = answer
    endpoint = make_endpoint(server)
    assert [endpoint.ask(QUESTION).max_tokens for _ in range(2)] == [1000, 1000]
    assert [request["max_tokens"] for request in server.requests] == [4000, 2000, 1000, 1000]


def test_a_context_too_small_for_the_question_is_an_error(server, make_endpoint):
    server.answerer = lambda request: Status(400, "This model's maximum context length is 100 tokens")
    with pytest.raises(Misconfigured, match="larger context"):
        make_endpoint(server).ask(QUESTION)


# Faults that a retry does not cure.


def test_a_rejected_key_is_an_error_that_does_not_show_it(make_server, make_endpoint):
    server = make_server(key="the-right-one")
    endpoint = make_endpoint(server)
    with pytest.raises(Misconfigured, match="rejects the key.*OPENAI_API_KEY") as error:
        endpoint.ask(QUESTION)
    assert KEY not in str(error.value) and KEY not in "".join(endpoint.lines)
    assert len(server.requests) == 1


def test_a_missing_key_is_an_error_that_names_the_variable(make_server, make_endpoint):
    with pytest.raises(Misconfigured, match="set OPENAI_API_KEY"):
        make_endpoint(make_server(key="the-right-one"), key=None).ask(QUESTION)


def test_an_answer_that_contains_the_key_is_thrown_away(server, make_endpoint):
    server.script(Say(f"your key is {KEY}"))
    answer = make_endpoint(server).ask(QUESTION)
    assert (answer.text, answer.finish_reason) == ("", WITHHELD)


@pytest.mark.parametrize("key", ["x", "none", "EMPTY", "fixed", "task_reward"])
def test_a_key_that_is_not_secret_never_changes_an_answer(server, make_endpoint, key):
    text = '{"name": "X", "fixed": 1, "task_reward": "nonempty EMPTY"}'
    server.script(Say(text))
    answer = make_endpoint(server, key=key).ask(QUESTION)
    assert (answer.text, answer.finish_reason) == (text, "stop")


@pytest.mark.parametrize(
    "reply",
    [
        Status(404, "The model `model-a` does not exist", "model_not_found"),
        Status(404, "model 'model-a' not found, try pulling it first"),
        Status(400, "Unknown model: model-a"),
        Status(400, "invalid model ID"),
    ],
)
def test_an_unknown_model_is_an_error_that_names_the_flag(server, make_endpoint, reply):
    server.script(reply)
    with pytest.raises(Misconfigured, match="does not know the model model-a.*--llm_name"):
        make_endpoint(server).ask(QUESTION)


@pytest.mark.parametrize("path", ["", "/v2"])
def test_an_address_without_chat_completions_is_an_error_that_names_the_flag(server, make_endpoint, path):
    url = server.url.removesuffix("/v1") + path
    with pytest.raises(Misconfigured, match="--llm_base_url"):
        make_endpoint(server, url=url).ask(QUESTION)


def test_a_web_page_is_not_a_model(server, make_endpoint):
    server.script(Body(b"<html>Welcome</html>", "text/html"))
    with pytest.raises(Misconfigured, match="does not answer like an OpenAI-compatible server.*--llm_base_url"):
        make_endpoint(server).ask(QUESTION)


def test_an_account_without_credit_is_not_retried(server, make_endpoint, clock):
    server.script(Status(429, "You exceeded your current quota", "insufficient_quota"))
    with pytest.raises(Misconfigured, match="no credit"):
        make_endpoint(server).ask(QUESTION)
    assert clock.pauses == []


def test_a_dead_address_is_an_error_at_first_and_retried_later(make_endpoint, clock):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
    endpoint = make_endpoint(None, url=url)
    with pytest.raises(Unreachable, match="one try.*start the server there, or correct --llm_base_url"):
        endpoint.try_form(AnswerForm.SCHEMA, QUESTION, Patience(60, waits_for_absent=False))
    assert clock.pauses == []
    with pytest.raises(Unreachable, match="tries"):  # a server that once answered may come back
        endpoint.ask(QUESTION)
    assert clock.pauses


def test_an_error_sent_with_http_200_is_retried(server, make_endpoint):
    server.script(Body(b'{"error": {"message": "upstream is down"}}'), Say("ok"))
    answer = make_endpoint(server).ask(QUESTION)
    assert "upstream is down" in answer.failed_tries[0]


# Testing what a server supports.


@pytest.mark.parametrize("incapable", [Status(400, "no"), Status(422, "no"), Status(500, "internal"), Status(501, "no")])
def test_a_form_that_a_server_fails_on_is_unsupported(make_server, make_endpoint, clock, incapable):
    server = make_server(forms=set(), incapable=incapable)
    endpoint = make_endpoint(server)
    for form in (AnswerForm.SCHEMA, AnswerForm.OBJECT, AnswerForm.TOOL):
        assert endpoint.try_form(form, QUESTION, Patience(60)) is None
    assert len(server.requests) == 3 and clock.pauses == []  # nothing was sent twice


def test_the_form_check_waits_for_a_busy_server(server, make_endpoint, clock):
    server.script(Status(503, "loading the model"), Say("ok"))
    assert make_endpoint(server).try_form(AnswerForm.SCHEMA, QUESTION, Patience(60)).text == "ok"
    assert len(clock.pauses) == 1


# Small parts.


def test_retry_after_is_read_in_every_format():
    assert retry_after_s({"retry-after": "2.5"}) == 2.5
    assert retry_after_s({"retry-after-ms": "250"}) == 0.25
    assert retry_after_s({"retry-after": formatdate(time.time() - 100)}) == 0.0
    assert retry_after_s({"retry-after": formatdate(time.time() + 100)}) > 50
    assert retry_after_s({}) is None and retry_after_s({"retry-after": "soon"}) is None


def test_pauses_grow_to_a_limit_and_differ():
    several = [[next_pause for next_pause, _ in zip(pauses(), range(12))] for _ in range(2)]
    assert several[0] != several[1]
    assert max(map(max, several)) <= endpoint_module.LONGEST_PAUSE_S
    assert min(pause[-1] for pause in several) >= endpoint_module.LONGEST_PAUSE_S / 2
