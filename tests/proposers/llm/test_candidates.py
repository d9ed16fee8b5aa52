"""Several rewards for one skill: the question, which rewards are dropped, and who learns why."""

from __future__ import annotations

import json

import pytest

from flowrl.proposers.llm.proposal import schema
from flowrl.proposers.llm.reward_menu import menu_terms
from flowrl.skills.checks import CodeRefused
from tests.proposers.llm.server import Say, skill_json
from tests.proposers.llm.starts import CLASSIC, LlmStart

GAIN = {"reward_menu": [{"term": "gain", "target": "wood", "weight": 1.0}], "task_reward": None}
LEAD = {"reward_menu": [{"term": "approach", "target": "TREE", "weight": 0.5}], "task_reward": None}
CODE = {"reward_menu": None, "task_reward": "def task_reward(inventory_diff):\n    return 2.0 * inventory_diff.wood"}
UNSAFE = {"reward_menu": None, "task_reward": "def task_reward(inventory_diff):\n    return open('x')"}
HEAVY = {"reward_menu": [{"term": "gain", "target": "wood", "weight": 99.0}], "task_reward": None}


def several(*rewards, **changes) -> Say:
    skill = json.loads(skill_json("Collect_Wood", **changes))
    del skill["reward_menu"], skill["task_reward"]
    return Say(json.dumps(skill | {"rewards": list(rewards)}))


@pytest.fixture
def start(tmp_path, server, clock):
    def make(*replies, candidates=3, **how) -> LlmStart:
        server.script(*replies)
        found = LlmStart(tmp_path / "exp", server.url, clock, candidates=candidates, **how)
        found.proposer.prepare(is_resumed=False)
        return found

    return make


def outcomes(start: LlmStart) -> list[dict]:
    return [json.loads(path.read_text())["outcome"] for path in sorted(start.settings.folder.glob("[1-9]*-*.json"))]


def refuses(*faults: str):
    """A gate that refuses rewards containing one of these texts."""

    def gate(spec):
        if any(fault in spec.task_reward for fault in faults):
            raise CodeRefused(f"skill {spec.name}: gain_not_paid: the gain is not paid", "gain_not_paid")
        return {"passed": True, "sha256": spec.task_reward}

    return gate


def test_several_rewards_are_requested_checked_and_stored(start, server):
    run = start(several(GAIN, LEAD, CODE), gate=refuses())
    assert run.propose() == "Collect_Wood"
    (question,) = server.questions
    assert 'Give 3 rewards in "rewards"' in question["messages"][0]["content"]
    assert question["response_format"]["json_schema"]["schema"] == schema(menu_terms(CLASSIC), 3)
    data = run.graph.skills["Collect_Wood"]
    assert "inventory_diff.wood" in data["task_reward"] and len(data["candidates"]) == 2
    assert "TREE" in data["candidates"][0] and "2.0" in data["candidates"][1]
    reports = [data["gate"], *data["candidate_gates"]]
    assert [report["sha256"] for report in reports] == [data["task_reward"], *data["candidates"]]
    assert "dropped" not in run.told and "dropped" not in outcomes(run)[0]


def test_with_one_reward_the_prompt_does_not_mention_several(start, server):
    run = start(Say(skill_json("Collect_Wood")), candidates=1)
    assert run.propose() == "Collect_Wood"
    (question,) = server.questions
    assert "rewards" not in json.dumps(question["response_format"]) and "SEVERAL" not in question["messages"][0]["content"]
    assert not {"candidates", "candidate_gates"} & run.graph.skills["Collect_Wood"].keys()
    assert "rewards" not in json.dumps(schema(menu_terms(CLASSIC)))


def test_rewards_that_do_not_pass_are_dropped_with_a_visible_reason(start):
    run = start(several(HEAVY, GAIN, UNSAFE, LEAD, CODE), candidates=5, gate=refuses("TREE"))
    assert run.propose() == "Collect_Wood"
    data = run.graph.skills["Collect_Wood"]
    assert len(data["candidates"]) == 1 and "2.0" in data["candidates"][0]
    faults = ("reward_menu: gain has weight 99", "skill Collect_Wood: task_reward", "skill Collect_Wood: gain_not_paid")
    expected = [f"reward {number}: {fault}" for number, fault in zip((1, 3, 4), faults)]
    (skill,) = run.proposer.state["skills"]
    (outcome,) = outcomes(run)
    for number, text in zip((1, 3, 4), expected, strict=True):
        assert f"dropped    reward {number} of Collect_Wood: " in run.told
        assert skill["dropped"][expected.index(text)].startswith(text)
    assert outcome["dropped"] == skill["dropped"]
    log = (run.settings.folder / "proposer.log").read_text()
    assert "reward 4 of Collect_Wood dropped: skill Collect_Wood: gain_not_paid" in log


def test_rewards_with_the_same_code_count_once(start):
    again = {"reward_menu": None, "task_reward": f"{CODE['task_reward']}  # the same, with a comment"}
    run = start(several(CODE, again, GAIN))
    assert run.propose() == "Collect_Wood"
    assert len(run.graph.skills["Collect_Wood"]["candidates"]) == 1
    assert "dropped    reward 2 of Collect_Wood: it has the same code as an earlier reward" in run.told


def test_a_single_remaining_reward_needs_no_trial(start):
    run = start(several(GAIN, GAIN), candidates=2)
    run.propose()
    assert "candidates" not in run.graph.skills["Collect_Wood"]


def test_if_no_reward_passes_the_model_gets_each_reason_and_repairs_them(start, server):
    run = start(several(HEAVY, UNSAFE, LEAD), several(GAIN), gate=refuses("TREE"))
    assert run.propose() == "Collect_Wood"
    complaint = server.questions[1]["messages"][-1]["content"]
    assert "none of the 3 rewards of skill Collect_Wood can be trained" in complaint
    faults = ("reward_menu: gain has weight 99", "skill Collect_Wood: task_reward, line 2", "skill Collect_Wood: gain_not_paid")
    for number, fault in enumerate(faults, 1):
        assert f"reward {number}: {fault}" in complaint
    assert outcomes(run)[0]["verdict"] == "refused" and "reward 3" in outcomes(run)[0]["reason"]
    assert "candidates" not in run.graph.skills["Collect_Wood"]


def test_a_fault_shared_by_all_rewards_is_reported_once(start, server):
    is_done = "def task_is_done(inventory):\n    return open('x')"
    run = start(several(GAIN, LEAD, CODE, task_is_done=is_done), several(GAIN))
    assert run.propose() == "Collect_Wood"
    complaint = server.questions[1]["messages"][-1]["content"]
    assert complaint.count("task_is_done") == 1 and "none of" not in complaint


def test_an_answer_with_one_reward_or_too_many_is_accepted(start):
    too_many = skill_json("Collect_Sapling", "sapling", rewards=[GAIN, LEAD, CODE])
    run = start(Say(skill_json("Collect_Wood")), Say(too_many), candidates=2)
    assert [run.propose(), run.propose()] == ["Collect_Wood", "Collect_Sapling"]
    assert "candidates" not in run.graph.skills["Collect_Wood"]
    assert len(run.graph.skills["Collect_Sapling"]["candidates"]) == 1


def test_a_replay_offers_the_same_rewards(start, tmp_path, clock):
    run = start(several(HEAVY, GAIN, CODE))
    run.propose()
    again = LlmStart(tmp_path / "exp", "http://127.0.0.1:9/v1", clock, candidates=3, mode="replay", key=None)
    again.proposer.prepare(is_resumed=False)
    assert again.propose() == "Collect_Wood"
    assert again.graph.skills["Collect_Wood"] == run.graph.skills["Collect_Wood"]
    assert len(again.graph.skills["Collect_Wood"]["candidates"]) == 1
