"""The whole gate judges every function of the corpus correctly."""

import re
from pathlib import Path

import pytest

from flowrl.gate import execution, probe, rules
from flowrl.skills import candidates, checks
from flowrl.skills.checks import CodeRefused
from flowrl.skills.fingerprint import fingerprint
from flowrl.skills.gate_report import RAN
from tests.gate.corpus import BAD, GOOD
from tests.gate.styles import STYLES

PASSING = [*GOOD, *STYLES]


def test_the_corpus_is_large_and_names_each_case_once():
    assert len(BAD) >= 140 and len(PASSING) >= 60
    assert len({case.name for case in BAD + PASSING}) == len(BAD + PASSING)


def test_every_reason_is_explained():
    page = (Path(__file__).parents[2] / "docs" / "gate.md").read_text()
    explained = set(re.findall(r"^\| `(\w+)` \|.*\|.*\w.*\|$", page, re.MULTILINE))
    sources = "".join(Path(module.__file__).read_text() for module in (rules, execution, probe, checks, candidates))
    named = set(re.findall(r'CodeFault\(\s*f?"(\w+)"', sources)) | {
        "not_allowed",
        "crashed",
        "too_slow",
        "out_of_range",
        "no_reward_left",
    }
    assert {case.reason for case in BAD} <= named | explained
    assert len(named) >= 14 and named <= explained


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.name)
def test_a_bad_function_is_refused_for_its_reason_in_one_line(case, gates):
    with pytest.raises(CodeRefused) as refused:
        gates[case.env_name](case.spec)
    assert refused.value.reason == case.reason, refused.value
    assert str(refused.value).startswith("skill Trial: ") and "\n" not in str(refused.value)
    assert case.reason == "not_allowed" or f"skill Trial: {case.reason}: " in str(refused.value)


@pytest.mark.parametrize("case", PASSING, ids=lambda case: case.name)
def test_a_good_function_passes_with_a_report(case, gates):
    spec = case.spec
    report = gates[case.env_name](spec)
    assert report["passed"] and report["probe"] == RAN
    assert report["sha256"] == fingerprint(spec.task_is_done, spec.task_reward)
    assert len(report["checks"]) >= 5 and report["seconds"] > 0
