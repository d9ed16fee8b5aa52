"""The conversation: refusals go back to the model, skills are given up in time, and costs are tracked."""

from __future__ import annotations

import json

import pytest

from flowrl.errors import BadInput
from flowrl.proposers.base import ProposerError
from flowrl.proposers.llm import form_check
from flowrl.proposers.llm.proposer import MOST_ABANDONED
from flowrl.skills.checks import CodeRefused
from tests.proposers.llm.server import Body, Hang, Message, Say, Status, form_of, skill_json
from tests.proposers.llm.starts import KEY, LlmStart

WOOD, SAPLING = (Say(skill_json(f"Collect_{gain.capitalize()}", gain)) for gain in ("wood", "sapling"))
NO_IMPORTS = {
    "reward_menu": None,
    "task_is_done": "def task_is_done(inventory, n):\n    return inventory.wood >= n",
    "task_reward": "def task_reward(inventory_diff):\n    import os\n    return 1.0 * inventory_diff.wood",
}


@pytest.fixture
def start(tmp_path, server, clock):
    """Makes a prepared start whose server sends these replies."""

    def make(*replies, prepared=True, **how) -> LlmStart:
        server.script(*replies)
        found = LlmStart(tmp_path / "exp", how.pop("url", server.url), clock, **how)
        if prepared:
            found.proposer.prepare(is_resumed=False)
        return found

    return make


def recorded(start: LlmStart) -> dict[str, dict]:
    """The recordings of proposals, by number such as ``1-0``."""
    files = sorted(start.settings.folder.glob("[1-9]*-*.json"))
    return {"-".join(path.name.split("-")[:2]): json.loads(path.read_text()) for path in files}


# The conversation.


def test_skills_are_proposed_one_after_the_other(start, server):
    run = start(WOOD, SAPLING)
    assert [run.propose(), run.propose()] == ["Collect_Wood", "Collect_Sapling"]
    first, second = server.questions
    assert "- Collect_Wood: gains wood n" in second["messages"][1]["content"]
    assert "- Collect_Wood" not in first["messages"][1]["content"]
    assert run.proposer.state["refused"] == []


def test_a_name_with_spaces_and_brackets_is_replaced_and_the_user_hears_of_it(start, server):
    run = start(Say(skill_json("Collect Wood (n)")), Say(skill_json("Collect_Wood (n)", "sapling")), SAPLING)
    assert run.propose() == "Collect_Wood_n"
    assert run.told.count("renamed    Collect Wood (n) to Collect_Wood_n: names have no spaces or brackets") == 1
    assert recorded(run)["1-0"]["outcome"]["skill_name"] == "Collect_Wood_n"
    assert run.propose() == "Collect_Sapling"
    assert "skill Collect_Wood_n already exists" in server.questions[2]["messages"][-1]["content"]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (Say("I would collect wood."), "AnswerRefused: the answer contains no JSON object"),
        (Say('{"name": "Collect_Wood", "gains": [{"resour'), "AnswerRefused: the answer contains no JSON object"),
        (Say(skill_json("Collect_Wood", gains=[])), "gains nothing"),
        (Say(skill_json("Collect_Wood", **NO_IMPORTS)), "CodeRefused: skill Collect_Wood: task_reward, line 2: uses Import"),
        (Say(skill_json("Make_X", "wood_pickaxe", consumes=[{"resource": "wood", "per": 0, "fixed": 1}])),
         "BadInput: skill Make_X needs wood, which none of the 0 skills in reach provides"),
        (Say("", refusal="I would rather not."), "AnswerRefused: the model declined to answer (I would rather not.)"),
        (Say("", finish_reason="content_filter"), "declined"),
        (Say(""), "no JSON object"),
        (Message({"role": "assistant", "content": [{"type": "reasoning", "text": WOOD.text}]}), "no JSON object"),
        (Message({"role": "assistant", "content": 3}), "no JSON object"),
        (Message({"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}), "declined to answer (No.)"),
        (Say("half a character: \ud800"), "no JSON object"),
        (Say(skill_json("\x1b[2J\nX")), r"BadInput: skill name '\x1b[2J\nX' is not usable"),
    ],
)  # fmt: skip
def test_a_refused_proposal_goes_back_to_the_model_and_is_repaired(start, server, bad, reason):
    run = start(bad, WOOD)
    assert run.propose() == "Collect_Wood"
    *_, answer, complaint = server.questions[1]["messages"]
    assert (answer["role"], complaint["role"]) == ("assistant", "user")
    assert reason in complaint["content"]
    assert reason in run.told
    assert recorded(run)["1-0"]["outcome"]["verdict"] == "refused"
    assert reason in recorded(run)["1-0"]["outcome"]["reason"]
    assert recorded(run)["1-1"]["outcome"] == {"verdict": "accepted", "skill_name": "Collect_Wood", "reason": None}
    assert reason in (run.settings.folder / "proposer.log").read_text()


CALLED = {"id": "1", "type": "function", "function": {"name": "propose_skill", "arguments": json.loads(WOOD.text)}}


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": [{"type": "reasoning", "text": "{hm"}, {"type": "text", "text": WOOD.text}]},
        {"role": "assistant", "content": json.loads(WOOD.text)},
        {"role": "assistant", "content": None, "tool_calls": [CALLED]},
        {"role": "assistant", "content": None, "tool_calls": CALLED},
        {"role": "assistant", "content": None, "function_call": CALLED["function"]},
        {"role": "assistant", "content": f"I would do this:\n</think>\nHere is the skill: {WOOD.text} Hope this helps!"},
        {"role": "assistant", "content": skill_json("Collect_Wood", description="half a character: \ud800")},
        WOOD.text,
    ],
)
def test_an_answer_is_read_in_every_shape(start, server, message):
    run = start(Message(message))
    assert run.propose() == "Collect_Wood"
    assert len(server.questions) == 1
    assert json.loads(json.dumps(run.graph.skills))["Collect_Wood"]["gains"]["wood"]


@pytest.mark.parametrize(
    "content",
    [
        {"choices": {"message": {"content": WOOD.text}}},
        {"choices": [{"text": WOOD.text}]},
        {"choices": [None]},
        {"choices": "none"},
        {"output": WOOD.text},
    ],
)
def test_an_answer_that_is_no_chat_completion_is_an_error(start, content):
    run = start(Body(json.dumps(content).encode()))
    with pytest.raises(BadInput, match="does not answer like an OpenAI-compatible server"):
        run.propose()


def test_missing_counts_and_names_are_accepted(start):
    message = {"role": "assistant", "content": WOOD.text}
    run = start(Body(json.dumps({"choices": [{"message": message, "finish_reason": 7}], "usage": {}}).encode()))
    assert run.propose() == "Collect_Wood"
    assert recorded(run)["1-0"]["tokens"]["is_estimated"] and recorded(run)["1-0"]["answer"]["finish_reason"] == "7"


def test_a_skill_that_exists_or_gains_nothing_new_is_refused(start, server):
    run = start(WOOD, WOOD, Say(skill_json("Collect_Wood_Again")), SAPLING)
    assert [run.propose(), run.propose()] == ["Collect_Wood", "Collect_Sapling"]
    told = [message["content"] for message in server.questions[-1]["messages"] if message["role"] == "user"][1:]
    assert "skill Collect_Wood already exists" in told[0]
    assert "Collect_Wood_Again is not new: the library already provides wood" in told[1]


def test_a_refusal_by_the_callers_gate_goes_back_to_the_model_too(start, server):
    def gate(spec):
        if spec.name == "Collect_Wood":
            raise CodeRefused("task_reward is not finite when wood is gained")

    run = start(WOOD, SAPLING, gate=gate)
    assert run.propose() == "Collect_Sapling"
    assert "CodeRefused: task_reward is not finite" in server.questions[1]["messages"][-1]["content"]


def test_after_a_cut_off_answer_the_model_is_asked_again_with_more_room(start, server):
    run = start(Say('{"name": "Collect_W', finish_reason="length"), WOOD)
    assert run.propose() == "Collect_Wood"
    assert "cut off after 16000 tokens" in server.questions[1]["messages"][-1]["content"]
    assert [question["max_tokens"] for question in server.questions] == [16000, 32000]


def test_the_first_two_cut_off_answers_do_not_count_as_repairs(start, server):
    cut_off = Say('{"name": "Collect_W', finish_reason="length")
    run = start(cut_off, cut_off, WOOD, max_repairs=0)
    assert run.propose() == "Collect_Wood"
    assert [question["max_tokens"] for question in server.questions] == [16_000, 32_000, 32_000]
    assert "Collect_W" not in json.dumps(server.questions[2]["messages"][2:])  # half an answer would only take up room
    assert "(asking again): AnswerRefused: the answer was cut off" in run.told and "repair 1" not in run.told
    assert run.proposer.state["refused"] == []


def test_a_model_that_is_always_cut_off_is_given_up(start, server):
    cut_off = Say("", finish_reason="length")
    run = start(*[cut_off] * 4, WOOD, max_repairs=1)
    assert run.propose() == "Collect_Wood"
    assert "given up   an answer after 1 repair: AnswerRefused: the answer was cut off" in run.told
    assert len(server.questions) == 5


def test_a_skill_is_given_up_after_its_repairs_and_another_one_is_requested(start, server):
    run = start(*[Say("no")] * 3, WOOD, max_repairs=2)
    assert run.propose() == "Collect_Wood"
    assert [len(question["messages"]) for question in server.questions] == [2, 4, 6, 2]
    assert [(entry["repairs"], entry["name"]) for entry in run.proposer.state["refused"]] == [(2, None)]
    assert "no JSON object" in run.proposer.state["refused"][0]["reason"]
    assert "given up   an answer after 2 repairs" in run.told
    assert set(recorded(run)) == {"1-0", "1-1", "1-2", "2-0"}


def test_max_repairs_may_be_zero(start, server):
    run = start(Say("no"), WOOD, max_repairs=0)
    assert run.propose() == "Collect_Wood"
    assert len(server.questions[1]["messages"]) == 2


def test_a_model_that_never_passes_is_given_up(start, server):
    server.answerer = lambda request: Say("no")
    run = start(max_repairs=1)
    with pytest.raises(ProposerError, match="5 skills in a row were given up.*proposer.log.*--llm_name"):
        run.propose()
    assert len(server.questions) == 2 * MOST_ABANDONED
    assert run.proposer.state["status"] == "proposer_error"
    assert "5 skills in a row" in run.proposer.state["last_error"]
    assert len(run.proposer.state["refused"]) == MOST_ABANDONED


def test_only_skills_given_up_in_a_row_count(start, server):
    some = [Say("no")] * (MOST_ABANDONED - 1)
    run = start(*some, WOOD, *some, SAPLING, max_repairs=0)
    assert [run.propose(), run.propose()] == ["Collect_Wood", "Collect_Sapling"]
    assert len(run.proposer.state["refused"]) == 2 * len(some)


def test_skills_refused_by_the_caller_count_as_well(start, server):
    server.answerer = lambda request: WOOD

    def gate(spec):
        raise CodeRefused("never")

    run = start(max_repairs=0, gate=gate)
    with pytest.raises(ProposerError, match="CodeRefused: never"):
        run.propose()
    assert run.proposer.state["status"] == "proposer_error"


# Finding out what the server supports.


@pytest.mark.parametrize(
    ("forms", "used"),
    [
        ({"json_schema"}, "json_schema"),
        ({"json_object", "tool_call"}, "json_object"),
        ({"tool_call"}, "tool_call"),
        (set(), None),
    ],
)
@pytest.mark.parametrize("incapable", [Status(400, "no"), Status(500, "no"), None], ids=["says 400", "says 500", "ignores it"])
def test_the_best_form_that_the_server_supports_is_used(make_server, start, forms, used, incapable):
    server = make_server(forms=forms, incapable=incapable)
    server.script(WOOD)
    run = start(url=server.url)
    assert run.propose() == "Collect_Wood"
    expected = "text" if used is None else used
    # A server may ignore the form, and its model may still follow the schema in the prompt; this one does not.
    assert run.proposer.model.endpoint.form == expected
    assert form_of(server.questions[0]) == used
    assert f"answering as {expected}" in run.proposer.describe()


def test_the_form_is_found_out_once_per_model(start, server, tmp_path, clock):
    run = start(WOOD)
    run.propose()
    trials = len(server.requests) - len(server.questions)
    assert trials == 1
    server.script(SAPLING)
    again = LlmStart(tmp_path / "exp", server.url, clock, known=run.graph.skills)
    again.proposer.prepare(is_resumed=True)
    assert again.propose() == "Collect_Sapling"
    assert len(server.requests) - len(server.questions) == trials
    server.script(Say(skill_json("Drink", "achievement:COLLECT_DRINK")))
    other = LlmStart(tmp_path / "exp", server.url, clock, known=again.graph.skills, model="model-b")
    other.proposer.prepare(is_resumed=True)
    assert other.propose() == "Drink"
    assert len(server.requests) - len(server.questions) == trials + 1


def test_any_model_name_works_if_the_server_accepts_it(start):
    assert start(WOOD, model="whatever").propose() == "Collect_Wood"


# Bad input, before anything is trained.


@pytest.mark.parametrize(
    ("of_server", "of_start", "told"),
    [
        ({"key": "another"}, {}, "rejects the key.*OPENAI_API_KEY"),
        ({"models": {"model-b"}}, {}, "does not know the model model-a.*--llm_name"),
        ({}, {"url": "http://127.0.0.1:9/v1"}, "--llm_base_url"),
        ({}, {"url": "http://no-such-host.invalid/v1"}, "--llm_base_url"),
        ({}, {"mode": "replay"}, "no recording 1-0-.*--llm_mode live"),
    ],
)
def test_bad_settings_are_reported_at_once_and_leave_no_file(make_server, start, tmp_path, clock, of_server, of_start, told):
    url = make_server(**of_server).url
    with pytest.raises(BadInput, match=told) as error:
        start(**{"url": url} | of_start)
    assert "\n" not in str(error.value) and KEY not in str(error.value)
    assert list(tmp_path.iterdir()) == [] and clock.pauses == []


def test_a_server_that_does_not_answer_is_an_error_before_anything_is_trained(start, server, tmp_path):
    server.before_form_check.extend([Hang(), Hang()])
    with pytest.raises(BadInput, match="no answer.*--llm_timeout_s"):
        start(timeout_s=0.4)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("timeout_s", "limit_s"), [(0.4, 0.4), (120, 120), (600, 120), (3000, 600)])
def test_the_time_for_the_first_question_grows_with_the_time_for_answers(timeout_s, limit_s):
    assert form_check.limit_s(timeout_s) == limit_s


def test_a_resumed_start_does_not_wait_for_the_model(start, server):
    server.before_form_check.extend([Hang(), Hang()])
    run = start(prepared=False, timeout_s=0.4)
    run.proposer.prepare(is_resumed=True)
    assert server.requests == []
    with pytest.raises(ProposerError, match="no answer"):
        run.propose()
    assert run.proposer.state["status"] == "proposer_error" and "no answer" in run.proposer.state["last_error"]


def test_an_unreachable_model_is_a_proposer_error_and_may_come_back(start, server):
    run = start(WOOD)
    assert run.propose() == "Collect_Wood"
    server.answerer = lambda request: Status(503, "down")
    with pytest.raises(ProposerError, match="503"):
        run.propose()
    server.answerer = lambda request: SAPLING
    assert run.propose() == "Collect_Sapling"


# Costs.


def test_tokens_and_dollars_are_reported_per_skill_and_in_total(start):
    run = start(Say("no", prompt_tokens=2000, completion_tokens=100), WOOD, SAPLING, model="gpt-4o-mini", budget_usd=5.0)
    run.propose(), run.propose()
    state = run.proposer.state
    trial = (100 * 0.15 + 10 * 0.6) / 1e6
    first = (2000 * 0.15 + 100 * 0.6 + 1000 * 0.15 + 100 * 0.6) / 1e6
    second = (1000 * 0.15 + 100 * 0.6) / 1e6
    assert [(skill["name"], skill["calls"], skill["tokens"]) for skill in state["skills"]] == [
        ("Collect_Wood", 2, 3200), ("Collect_Sapling", 1, 1100),
    ]  # fmt: skip
    assert [skill["cost_usd"] for skill in state["skills"]] == pytest.approx([first, second], abs=1e-6)
    assert state["cost_usd"] == pytest.approx(trial + first + second, abs=1e-6)
    assert (state["calls"], state["tokens"]) == (4, {"prompt": 4100, "completion": 310})
    assert recorded(run)["2-0"]["cost_usd"] == pytest.approx(second)


def test_the_estimate_is_printed_before_the_first_call(tmp_path, make_server, clock):
    server = make_server(key="another")
    run = LlmStart(tmp_path / "exp", server.url, clock, model="gpt-4o-mini")
    with pytest.raises(BadInput):
        run.proposer.prepare(is_resumed=False)
    assert "gpt-4o-mini: about" in run.told and "for 4 skills" in run.told


def test_an_unknown_price_is_reported_as_unknown(start, monkeypatch):
    from flowrl.proposers.llm import prices

    monkeypatch.setattr(prices, "is_local", lambda address: False)
    run = start(WOOD)
    run.propose()
    assert run.proposer.state["cost_usd"] is None and run.proposer.state["tokens"]["prompt"] == 1100
    assert "price of model-a is unknown" in run.told


def test_the_budget_ends_proposing_and_is_not_an_error(start, server):
    run = start(WOOD, Say(SAPLING.text, completion_tokens=5000), model="gpt-5", budget_usd=0.05)
    assert run.propose() == "Collect_Wood"
    limits = [question["max_tokens"] for question in server.questions]
    assert 500 <= limits[0] < 16000  # the limit is what the rest of the budget pays for
    assert run.graph.num_left() is None
    assert [run.propose(), run.propose()] == ["Collect_Sapling", None]
    assert len(server.questions) == 2 and run.graph.num_left() == 0
    state = run.proposer.state
    assert (state["status"], state["last_error"]) == ("budget_spent", None)
    assert state["cost_usd"] > 0.04
    assert "of the budget of $0.05 is spent" in run.told and "raise --llm_budget_usd" in run.told


def test_a_budget_counts_what_earlier_starts_have_paid(start, server, tmp_path, clock):
    run = start(Say(WOOD.text, completion_tokens=4500), model="gpt-5", budget_usd=0.05)
    run.propose()
    again = LlmStart(tmp_path / "exp", server.url, clock, known=run.graph.skills, model="gpt-5", budget_usd=0.05)
    assert again.proposer.state["cost_usd"] == run.proposer.state["cost_usd"] > 0.04
    assert again.propose() is None
    assert len(server.questions) == 1


# The key.


def test_the_key_is_sent_and_never_written(make_server, start, tmp_path):
    server = make_server(key=KEY)
    server.script(Say(skill_json("Collect_Wood", description=f"by {KEY}")), Status(503, f"{KEY} is busy"), WOOD)
    run = start(url=server.url)
    assert run.propose() == "Collect_Wood"
    assert "AnswerRefused: the answer contained the server's key" in server.questions[1]["messages"][-1]["content"]
    assert recorded(run)["1-0"]["outcome"]["verdict"] == "refused"
    assert set(server.keys) == {KEY}
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) >= 4
    assert [path.name for path in written if KEY in path.read_text()] == []
    assert KEY not in run.told and KEY not in json.dumps(run.proposer.state)
    assert KEY not in repr(run.settings)


@pytest.mark.parametrize("key", ["x", "none", "EMPTY", "fixed", "collect"])
def test_a_short_key_changes_no_answer_and_no_recording(make_server, start, key):
    server = make_server(key=key)
    server.script(WOOD)
    run = start(url=server.url, key=key)
    assert run.propose() == "Collect_Wood"
    assert recorded(run)["1-0"]["answer"]["text"] == WOOD.text
