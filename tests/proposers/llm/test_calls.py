"""Recordings: no answer is paid for twice, and a whole experiment can be replayed without a key."""

from __future__ import annotations

import json
import shutil

import pytest

from flowrl.errors import BadInput
from flowrl.proposers.base import ProposerError
from flowrl.proposers.llm.calls import CallFolder, hash_of
from flowrl.skills.checks import CodeRefused
from tests.proposers.llm.server import Say, Status, skill_json
from tests.proposers.llm.starts import LlmStart

WOOD, SAPLING, STONE = (Say(skill_json(f"Collect_{gain.capitalize()}", gain)) for gain in ("wood", "sapling", "stone"))
NOWHERE = "http://127.0.0.1:9/v1"


@pytest.fixture
def start(tmp_path, server, clock):
    """Makes starts of one experiment (``exp``), or of another."""

    def make(known=None, folder="exp", url=server.url, **settings) -> LlmStart:
        found = LlmStart(tmp_path / folder, url, clock, known, **settings)
        found.proposer.prepare(is_resumed=known is not None)
        return found

    return make


def files(start: LlmStart) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(start.settings.folder.glob("*.json"))}


def test_a_call_is_recorded_completely(start, server):
    server.script(WOOD)
    run = start()
    run.propose()
    (name,) = [name for name in files(run) if name.startswith("1-0-")]
    found = json.loads(files(run)[name])
    assert name == f"1-0-{hash_of(found['request']['messages'])}.json"
    assert found["request"]["messages"] == server.questions[0]["messages"]
    assert found["answer"]["text"] == WOOD.text
    assert (found["tokens"]["prompt"], found["tokens"]["completion"], found["cost_usd"]) == (1000, 100, 0.0)
    assert found["seconds"] >= 0 and found["request"]["way"] == "json_schema"
    assert found["outcome"]["verdict"] == "accepted"


def test_failed_tries_are_recorded_with_the_answer(start, server):
    server.script(Status(503, "busy"), WOOD)
    run = start()
    run.propose()
    (call,) = CallFolder(run.settings.folder).of(1)
    assert call.failed_tries == ["HTTP 503: busy"]
    assert "HTTP 503: busy; retrying in" in (run.settings.folder / "proposer.log").read_text()


RECORDED = """{
  "version": 1, "proposal": 1, "repair": 0, "asked_at": "2026-01-02T03:04:05.678901Z",
  "request": {"address": "http://localhost:8000/v1", "model": "model-a", "way": "json_object", "tokens_parameter": "max_tokens",
              "max_tokens": 16000, "messages": [{"role": "system", "content": "rules"}, {"role": "user", "content": "go"}]},
  "answer": {"text": "{}", "finish_reason": "stop", "model": "model-a", "refusal": null},
  "tokens": {"prompt": 5170, "completion": 61, "cached": 0, "is_estimated": false},
  "seconds": 0.004, "cost_usd": 0.0, "failed_tries": [],
  "outcome": {"verdict": "refused", "skill_name": null, "reason": "AnswerRefused: no", "dropped": ["reward 2: no"]}
}"""


def test_the_format_of_recordings_stays_the_same(tmp_path):
    (tmp_path / "1-0-3b0f9b36.json").write_text(RECORDED)
    folder = CallFolder(tmp_path)
    (call,) = folder.all()
    assert (call.request.form, call.outcome.verdict) == ("json_object", "refused")
    folder.save(call)
    assert json.loads((tmp_path / call.file_name).read_text()) == json.loads(RECORDED)


# Resuming.


def test_a_start_killed_after_the_answer_does_not_pay_for_it_again(start, server):
    server.script(WOOD)
    start().graph.next_skill()  # then it is killed, before the skill is added
    again = start(known={})
    assert again.propose() == "Collect_Wood"
    assert len(server.questions) == 1
    assert again.proposer.state["calls"] == 2


def test_a_start_killed_after_the_skill_was_added_continues_with_the_next(start, server):
    server.script(WOOD, SAPLING)
    run = start()
    name, _ = run.graph.next_skill()
    run.graph.on_skill_complete(name)  # the scheduler has it, but the proposer was never told
    again = start(known=run.graph.skills)
    assert again.propose() == "Collect_Sapling"
    assert [len(question["messages"]) for question in server.questions] == [2, 2]  # the second is not a repair of the first
    assert {name[:4] for name in files(again)} == {"0-0-", "1-0-", "2-0-"}


def test_a_start_killed_during_a_repair_continues_with_it(start, server):
    server.script(Say("no"))
    with pytest.raises(ProposerError):  # no more replies: equivalent to a kill
        server.answerer = lambda request: server.replies.popleft() if server.replies else Status(503)
        start(timeout_s=3.0).propose()
    server.answerer = None
    server.script(WOOD)
    assert start(known={}).propose() == "Collect_Wood"
    last = server.questions[-1]["messages"]
    assert last[2]["content"] == "no" and "no JSON object" in last[3]["content"]
    assert {name[:4] for name in files(start(known={}))} == {"0-0-", "1-0-", "1-1-"}


def test_given_up_skills_are_not_asked_for_again(start, server):
    server.script(Say("no"), Say("no"), WOOD, SAPLING)
    run = start(max_repairs=1)
    assert run.propose() == "Collect_Wood"
    again = start(known=run.graph.skills, max_repairs=3)
    assert again.propose() == "Collect_Sapling"
    assert len(server.questions) == 4
    assert [entry["repairs"] for entry in again.proposer.state["refused"]] == [1]


def test_numbering_continues_after_the_recordings(start, server):
    server.script(WOOD, SAPLING)
    run = start()
    run.propose()
    again = start(known=run.graph.skills)
    again.propose()
    assert {name[:4] for name in files(again)} == {"0-0-", "1-0-", "2-0-"}


# Replay.


def record(start, server) -> LlmStart:
    """A run with a repair, one skill that was given up, and three that were accepted."""
    server.script(Say("no"), WOOD, Say("no"), Say("no"), SAPLING, Say(skill_json("Drink", "achievement:COLLECT_DRINK")))
    run = start(max_repairs=1, seed=3)
    assert [run.propose() for _ in range(3)] == ["Collect_Wood", "Collect_Sapling", "Drink"]
    return run


def replay(start, run: LlmStart, tmp_path, **how) -> LlmStart:
    if not (tmp_path / "copy").exists():
        shutil.copytree(run.settings.folder, tmp_path / "copy" / "llm")
    how = {"url": NOWHERE, "key": None, "mode": "replay", "max_repairs": 1, "folder": "copy"} | how
    return start(**how)


def test_a_replay_ends_with_the_same_skills_and_the_same_code(start, server, tmp_path):
    run = record(start, server)
    asked = len(server.requests)
    again = replay(start, run, tmp_path, seed=3)
    assert [again.propose() for _ in range(3)] == ["Collect_Wood", "Collect_Sapling", "Drink"]
    assert again.graph.skills == run.graph.skills
    assert len(server.requests) == asked
    assert (again.proposer.state["cost_usd"], again.proposer.state["calls"]) == (0.0, 0)
    assert files(again) == files(run)
    assert "differs from" not in (again.settings.folder / "proposer.log").read_text().replace(
        (run.settings.folder / "proposer.log").read_text(), ""
    )


def test_a_question_that_differs_is_logged_and_not_refused(start, server, tmp_path):
    run = record(start, server)
    again = replay(start, run, tmp_path, seed=4)
    assert again.propose() == "Collect_Wood"
    assert (
        "proposal 1, repair 0: the question differs from the recorded one"
        in (again.settings.folder / "proposer.log").read_text()
    )


def test_an_interrupted_replay_continues(start, server, tmp_path):
    run = record(start, server)
    first = replay(start, run, tmp_path)
    first.propose()
    again = replay(start, run, tmp_path, known=first.graph.skills)
    assert [again.propose(), again.propose()] == ["Collect_Sapling", "Drink"]


def test_a_replay_past_the_last_recording_is_an_error(start, server, tmp_path):
    again = replay(start, record(start, server), tmp_path)
    for _ in range(3):
        again.propose()
    with pytest.raises(BadInput, match="no recording 5-0-.*--llm_mode live"):
        again.propose()
    assert again.proposer.state["status"] == "proposer_error"


def test_a_skill_refused_only_in_the_replay_is_skipped(start, server, tmp_path, clock):
    run = record(start, server)
    shutil.copytree(run.settings.folder, tmp_path / "copy" / "llm")

    def gate(spec):
        if spec.name == "Collect_Sapling":
            raise CodeRefused("stricter now")

    again = LlmStart(tmp_path / "copy", NOWHERE, clock, gate=gate, mode="replay", key=None)
    assert [again.propose(), again.propose()] == ["Collect_Wood", "Drink"]
    assert files(again) == files(run)  # a replay changes no recording
    assert "refused now, accepted when it was recorded" in (again.settings.folder / "proposer.log").read_text()


def test_live_mode_uses_copied_recordings_and_asks_for_the_rest(start, server, tmp_path):
    run = record(start, server)
    server.script(Say(skill_json("Sleep", "achievement:WAKE_UP")))
    again = replay(start, run, tmp_path, mode="live", url=server.url)
    asked = len(server.requests)
    assert [again.propose() for _ in range(4)] == ["Collect_Wood", "Collect_Sapling", "Drink", "Sleep"]
    assert len(server.requests) == asked + 1


def test_record_mode_moves_earlier_recordings_aside(start, server, tmp_path):
    run = record(start, server)
    before = files(run)
    server.script(SAPLING, WOOD)
    again = start(mode="record")
    assert files(again) == before  # nothing is touched before the folder is ours
    assert again.propose() == "Collect_Sapling"
    assert {name[:4] for name in files(again)} == {"0-0-", "1-0-"}
    aside = tmp_path / "exp" / "llm.1"
    assert {path.name for path in aside.glob("*.json")} == before.keys()
    assert str(aside) in again.told
    resumed = start(mode="record", known=again.graph.skills)
    assert resumed.propose() == "Collect_Wood"
    assert {name[:4] for name in files(resumed)} == {"0-0-", "1-0-", "2-0-"}


# Changed files.


@pytest.mark.parametrize(
    ("content", "told"),
    [("{", "not valid JSON"), ("[]", "not a flowrl recording"), ('{"version": 1}', "not a flowrl recording")],
)
def test_a_damaged_recording_is_named(start, tmp_path, content, told):
    folder = tmp_path / "exp" / "llm"
    folder.mkdir(parents=True)
    (folder / "1-0-00000000.json").write_text(content)
    with pytest.raises(BadInput, match=f"1-0-00000000.json.*{told}"):
        start()


def test_other_files_in_the_folder_are_left_alone(start, server, tmp_path):
    folder = tmp_path / "exp" / "llm"
    folder.mkdir(parents=True)
    (folder / "notes.json").write_text("mine")
    server.script(WOOD)
    assert start().propose() == "Collect_Wood"
    assert (folder / "notes.json").read_text() == "mine"


def test_the_later_of_two_files_for_one_call_counts(start, server):
    server.script(WOOD)
    run = start()
    run.propose()
    (call,) = CallFolder(run.settings.folder).of(1)
    for number, moment in (("00000000", "2001-01-01T00:00:00Z"), ("ffffffff", "2002-02-02T00:00:00Z")):
        older = json.loads(call.model_dump_json()) | {"asked_at": moment}
        (run.settings.folder / f"1-0-{number}.json").write_text(json.dumps(older))
    assert CallFolder(run.settings.folder).of(1) == [call]


@pytest.mark.parametrize(("lost", "named"), [("1-0", "1-0"), ("2-0", "2-0"), ("2-1", "2-1"), ("3-0", None)])
def test_a_gap_in_the_recordings_is_found_before_anything_is_trained(start, server, lost, named):
    server.script(WOOD, Say("no"), SAPLING, STONE)
    run = start()
    assert [run.propose(), run.propose()] == ["Collect_Wood", "Collect_Sapling"]
    run.graph.next_skill()
    (path,) = run.settings.folder.glob(f"{lost}-*.json")
    path.unlink()
    replay = {"url": NOWHERE, "mode": "replay", "key": None}
    if named is None:  # as in a shorter experiment
        assert start(**replay).propose() == "Collect_Wood"
        return
    with pytest.raises(BadInput, match=f"there is no recording {named}-.*copy the llm folder"):
        start(**replay)
