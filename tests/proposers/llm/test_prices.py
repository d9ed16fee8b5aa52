"""Costs: prices, what a budget allows, and the estimate before the first call."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from flowrl.errors import BadInput
from flowrl.proposers.llm.account import Account
from flowrl.proposers.llm.calls import Call, Reply, Request, Tokens
from flowrl.proposers.llm.endpoint import Usage
from flowrl.proposers.llm.errors import BudgetSpent
from flowrl.proposers.llm.prices import FREE, Price, find_price, is_local, usd
from flowrl.proposers.llm.settings import OPENAI, LlmSettings, check_address

OPENING = [{"role": "system", "content": "x" * 9000}, {"role": "user", "content": "y" * 3000}]


def call(cost_usd, proposal=1):
    request = Request(address="a", model="m", form="text", tokens_parameter="max_tokens", max_tokens=1, messages=[])
    return Call(
        proposal=proposal, repair=0, asked_at=datetime.now(UTC), request=request, tokens=Tokens(prompt=1, completion=1),
        answer=Reply(text="", finish_reason="stop", model="m"), seconds=1.0, cost_usd=cost_usd,
    )  # fmt: skip


def account(tmp_path, model="gpt-4o-mini", address=OPENAI, budget=None):
    return Account(LlmSettings(model, address, tmp_path / "llm", budget_usd=budget))


def test_a_call_costs_what_its_tokens_do(tmp_path):
    price = Price(prompt=2.0, cached=0.5, completion=8.0)
    assert price.of(Usage(prompt=1_000_000, completion=0)) == 2.0
    assert price.of(Usage(prompt=1_000_000, completion=500_000, cached=400_000)) == pytest.approx(1.2 + 0.2 + 4.0)
    assert Price(prompt=2.0, completion=8.0).of(Usage(prompt=1000, completion=0, cached=1000)) == pytest.approx(0.002)


@pytest.mark.parametrize("name", ["gpt-4o-mini", "gpt-4o-mini-2024-07-18", "openai/gpt-4o-mini", "gpt-4o-mini-20240718"])
def test_a_model_is_found_under_its_other_names(tmp_path, name):
    assert find_price(name, OPENAI, tmp_path / "prices.json").prompt == 0.15


@pytest.mark.parametrize("name", ["gpt-4o-maxi", "gpt", "gpt-4o-mini-tuned", ""])
def test_a_model_that_is_not_listed_has_no_price(tmp_path, name):
    assert find_price(name, OPENAI, tmp_path / "prices.json") is None


def test_the_users_own_prices_come_first(tmp_path):
    own = tmp_path / "prices.json"
    own.write_text('{"models": {"gpt-5": {"prompt": 9, "completion": 9}, "mine": {"prompt": 1, "completion": 2}}}')
    assert find_price("gpt-5", OPENAI, own).prompt == 9
    assert find_price("mine", OPENAI, own).completion == 2
    assert find_price("gpt-4o", OPENAI, own).prompt == 2.5


@pytest.mark.parametrize("content", ["[]", '{"models": {"m": {"prompt": -1, "completion": 1}}}', '{"models": {"m": 3}}', "{"])
def test_a_price_list_that_cannot_be_read_is_named(tmp_path, content):
    own = tmp_path / "prices.json"
    own.write_text(content)
    with pytest.raises(BadInput, match=str(own)):
        find_price("m", OPENAI, own)


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("http://localhost:8000/v1", True), ("http://127.0.0.1:1/v1", True), ("http://[::1]:1/v1", True),
        ("http://192.168.1.5/v1", True), ("http://gpu-box:8000/v1", True), (OPENAI, False), ("https://8.8.8.8/v1", False),
        ("https://openrouter.ai/api/v1", False),
    ],
)  # fmt: skip
def test_a_local_server_costs_nothing_and_says_so(tmp_path, address, local):
    assert is_local(address) is local
    found = account(tmp_path, "some-model", address)
    assert (found.price == FREE) is local
    assert ("free: the server is local" in found.estimate(OPENING)) is local


def test_the_estimate_covers_one_skill_and_the_whole_experiment(tmp_path):
    text = account(tmp_path, "gpt-5").estimate(OPENING)
    assert "per skill" in text and "for 40 skills" in text and "$" in text and "no budget is set" in text
    assert "at most $2.00" in account(tmp_path, "gpt-5", budget=2.0).estimate(OPENING)
    assert "the price of unheard-of is unknown" in account(tmp_path, "unheard-of").estimate(OPENING)


def test_a_budget_that_cannot_be_enforced_is_refused(tmp_path):
    with pytest.raises(BadInput, match="cannot be enforced: the price of unheard-of is unknown; add it to .*prices.json"):
        account(tmp_path, "unheard-of", budget=1.0).check_budget(OPENING, [])
    with pytest.raises(BadInput, match="raise --llm_budget_usd, or use --proposer curriculum"):
        account(tmp_path, "gpt-5", budget=0.001).check_budget(OPENING, [])
    account(tmp_path, "gpt-5", budget=1.0).check_budget(OPENING, [])
    account(tmp_path, "some-model", "http://localhost:1/v1", budget=0.001).check_budget(OPENING, [])


def test_a_budget_is_never_overspent(tmp_path):
    found = account(tmp_path, "gpt-5", budget=0.10)
    messages = [{"role": "user", "content": "x" * 3000}]  # at most 1000 tokens: $0.00125
    assert found.affordable(messages, 8000, [call(0.01)]) == 8000
    tokens = found.affordable(messages, 8000, [call(0.05)])
    assert tokens < 8000
    assert 0.05 + found.price.of(Usage(prompt=1000, completion=tokens)) <= 0.10
    with pytest.raises(BudgetSpent, match=r"\$0.10 of the budget of \$0.10 is spent.*raise --llm_budget_usd$"):
        found.affordable(messages, 8000, [call(0.05), call(0.045)])


def test_one_unknown_cost_makes_the_sum_unknown(tmp_path):
    assert account(tmp_path).spent([call(0.5), call(0.25)]) == 0.75
    assert account(tmp_path).spent([call(0.5), call(None)]) is None
    assert json.loads(call(None).model_dump_json())["cost_usd"] is None


def test_amounts_of_money_are_readable():
    assert [usd(amount) for amount in (0, 0.000001, 0.0001, 0.00123, 0.1, 12.345, None)] == [
        "$0.00",
        "under $0.0001",
        "$0.0001",
        "$0.0012",
        "$0.10",
        "$12.35",
        "an unknown amount",
    ]


@pytest.mark.parametrize(
    "address",
    [
        "localhost:8000", "ftp://x/v1", "http://", "https://me:secret@x.org/v1", "https://x.org/v1?key=secret",
        "me:secret@x.org/v1", "https://me:secret@x.org:99x/v1", "https://x.org:99x/v1?key=secret", "https://x.org/v1\r",
        "https://x.org\r/v1", " https://x.org/v1", "https://x.org:99999/v1", "https://x.org:0/v1", "https://[::1/v1",
        "https://::1]/v1", "https://[zz]/v1", "https://x..org/v1", "https://" + "x" * 64 + ".org/v1", "https://x\x00.org/v1",
    ],
)  # fmt: skip
def test_an_invalid_address_or_one_with_a_secret_is_refused(address):
    with pytest.raises(BadInput, match="OPENAI_") as refused:
        check_address(address, "OPENAI_BASE_URL")
    assert "secret" not in str(refused.value) and "\r" not in str(refused.value)
