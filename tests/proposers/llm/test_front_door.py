"""Whole starts with a language model: the real command, the real client, a test server, and real tmux."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from flowrl import pickles
from flowrl.paths import ExperimentPaths
from flowrl.records.state_file import read_state
from flowrl.skills.module import skill_functions
from tests.experiment.fakes import until
from tests.experiment.starts import CLASSIC, TINY
from tests.proposers.llm.server import Hang, Say, Status, skill_json
from tests.proposers.llm.starts import KEY

CHECKOUT = Path(__file__).parents[3]
PRACTICE = "tests.proposers.llm.practice"
REAL = "flowrl.bottomup_parallel"
SHORT = (*TINY, "--total_timesteps", "512", "--success_rate", "1")

WOOD = Say(skill_json("Collect_Wood"))
SAPLING = Say(skill_json("Collect_Sapling", "sapling"))
DRINK = Say(skill_json("Collect_Drink", "achievement:COLLECT_DRINK"))
TABLE = Say(
    skill_json(
        "Place_Table",
        "near:CRAFTING_TABLE",
        requires=[{"resource": "wood", "per": 0, "fixed": 2}],
        consumes=[{"resource": "wood", "per": 0, "fixed": 2}],
        gains=[{"resource": "near:CRAFTING_TABLE", "per": 0, "fixed": 1}],
        reward_menu=None,
        task_is_done="def task_is_done(closest_blocks):\n"
        "    return jnp.abs(closest_blocks[BlockType.CRAFTING_TABLE.value]).max() <= 1",
        task_reward="def task_reward(achievements_diff, health_penalty):\n"
        "    return 1.0 * achievements_diff[Achievement.PLACE_TABLE.value] + health_penalty",
    )
)
UNSAFE_REWARD = "def task_reward(inventory_diff):\n    return open('/etc/passwd')"
UNSAFE = Say(
    skill_json(
        "Collect_Wood",
        reward_menu=None,
        task_is_done="def task_is_done(inventory, n):\n    return inventory.wood >= n",
        task_reward=UNSAFE_REWARD,
    )
)
PICKAXE = Say(skill_json("Make_Pickaxe", "iron_pickaxe", requires=[{"resource": "iron", "per": 0, "fixed": 1}]))


class Starts:
    """Starts of the command, each in its own process."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.paths = ExperimentPaths(folder / "exp")
        self.started: list[subprocess.Popen] = []

    def start(self, *flags: str, module: str = PRACTICE, root: str = "exp", wishes=None, **environ: str) -> subprocess.Popen:
        command = [sys.executable, "-m", module, "--graph_path", root, *flags]
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "WANDB_"))}
        ours |= {"PYTHONPATH": str(CHECKOUT), "MARK_WISHES": json.dumps(wishes or {}), **environ}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.started.append(subprocess.Popen(command, cwd=self.folder, env=ours, text=True, **pipes))
        return self.started[-1]

    def run(self, *flags: str, **how) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        process = self.start(*flags, **how)
        output, error = process.communicate(timeout=600)
        return process.returncode, output, error

    def state(self, root: str = "exp") -> dict:
        return read_state(self.folder / root / "scheduler_state.json").to_data()

    def statuses(self, root: str = "exp") -> dict[str, str]:
        return {skill["skill_name"]: skill["status"] for skill in self.state(root)["skills"]}

    def files(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file()]


@pytest.fixture
def starts(tmp_path):
    starts = Starts(tmp_path)
    yield starts
    for process in starts.started:
        if process.poll() is None:
            process.kill()
        process.communicate()
    # A training outlives the command and its terminal, so end what a failed test leaves behind.
    for found in psutil.process_iter(["cmdline"]):
        if any(str(tmp_path) in word for word in found.info["cmdline"] or ()):
            found.kill()


def test_skills_are_proposed_repaired_refused_trained_merged_and_replayed(starts, make_server):
    server = make_server(key=KEY)
    server.script(UNSAFE, WOOD, SAPLING, PICKAXE, PICKAXE, TABLE, DRINK)
    flags = (*CLASSIC, *SHORT, "--max_nodes", "4", "--max_repairs", "1")
    code, output, error = starts.run(
        *flags, "--llm_base_url", server.url, "--llm_name", "model-a", module=REAL, OPENAI_API_KEY=KEY
    )
    assert (code, error) == (0, ""), output
    names = ["Collect_Wood", "Collect_Sapling", "Place_Table", "Collect_Drink"]
    assert starts.statuses() == dict.fromkeys(names, "completed")
    assert sorted(starts.paths.library().values()) == sorted(names)

    check_what_was_trained(starts)

    proposer = starts.state()["proposer"]
    assert [(skill["name"], skill["calls"]) for skill in proposer["skills"]] == [
        (name, 1 + (name == "Collect_Wood")) for name in names
    ]
    (given_up,) = proposer["refused"]
    assert (given_up["name"], given_up["repairs"]) == ("Make_Pickaxe", 1) and "needs iron" in given_up["reason"]
    assert (proposer["status"], proposer["cost_usd"], proposer["calls"]) == ("proposing", 0.0, 8)
    assert "refused    Collect_Wood (repair 1 of 1 follows): CodeRefused" in output and "'open'" in output
    assert "given up   Make_Pickaxe after 1 repair: " in output
    assert "model-a: 8 calls" in output
    assert [path for path in starts.files() if KEY.encode() in path.read_bytes()] == []
    told = server.questions[-1]["messages"][1]["content"]
    assert "- Collect_Wood: gains wood n [success" in told and " frames of training]" in told

    shutil.copytree(starts.paths.llm, starts.folder / "again" / "llm")
    code, output, error = starts.run(*flags, "--llm_mode", "replay", root="again")
    assert (code, error) == (0, ""), output
    assert "replayed from recordings at no cost" in output
    assert len(server.questions) == 7
    assert list(starts.statuses("again")) == names
    for index, name in ExperimentPaths(starts.folder / "again").library().items():
        code_of = [
            next((starts.folder / root / "skills").glob(f"*_{name}/skill.json")).read_text() for root in ("exp", "again")
        ]
        first, second = (json.loads(text) for text in code_of)
        assert [first[key] for key in ("task_is_done", "task_reward")] == [
            second[key] for key in ("task_is_done", "task_reward")
        ]


def check_what_was_trained(starts):
    """Checks that each skill was really trained, and that each expert has the frames of all runs it learned in."""
    trained = {skill["skill_name"]: skill for skill in starts.state()["skills"]}
    total = {name: skill["frames"] for name, skill in trained.items()}
    for name, skill in trained.items():
        folder = starts.paths.skill_folder(skill["expert_idx"], name)
        result = json.loads((folder / "result.json").read_text())
        assert result["frames"] == skill["frames"] >= 512
        assert 0 <= result["success_rate"] <= 1 and 0 <= result["random_success_rate"] <= 1
        assert (folder / "training.log").read_text() and (folder / "metrics.jsonl").read_text()
    wood, table = trained["Collect_Wood"], trained["Place_Table"]  # a table needs wood: the first task of its plan
    total["Collect_Wood"] += table["frames"]
    folder = starts.paths.skill_folder(table["expert_idx"], "Place_Table")
    assert json.loads((folder / "result.json").read_text())["acted_frames"][str(wood["expert_idx"])] > 0
    assert json.loads((folder / "merge.json").read_text())["expert_updates"] == {
        str(table["expert_idx"]): {"action": "new", "frames": total["Place_Table"]},
        str(wood["expert_idx"]): {"action": "updated", "frames": total["Collect_Wood"]},
    }
    for name, skill in trained.items():
        expert = pickles.load(starts.paths.expert_params(skill["expert_idx"], name))
        assert expert["metadata"]["total_frames"] == total[name]


def test_of_several_rewards_the_best_is_trained_and_kept(starts, make_server):
    lead = {"reward_menu": None, "task_reward": "def task_reward(inventory_diff):\n    return 0.5 * inventory_diff.wood"}
    pay = {"reward_menu": [{"term": "gain", "target": "wood", "weight": 1.0}], "task_reward": None}
    unsafe = {"reward_menu": None, "task_reward": UNSAFE_REWARD}
    wood = json.loads(WOOD.text)
    del wood["reward_menu"], wood["task_reward"]
    server = make_server()
    server.script(Say(json.dumps(wood | {"rewards": [unsafe, lead, pay]})))
    flags = (*CLASSIC, *SHORT, "--max_nodes", "1", "--candidates", "3", "--llm_base_url", server.url)
    code, output, error = starts.run(*flags, module=REAL)
    assert (code, error) == (0, ""), output
    assert "dropped    reward 1 of Collect_Wood: skill Collect_Wood: task_reward" in output
    folder = starts.paths.skill_folder(0, "Collect_Wood")
    found, skill, result = (
        json.loads((folder / name).read_text()) for name in ("candidates.json", "skill.json", "result.json")
    )
    chosen = found["candidates"][found["chosen"] - 1]
    assert len(found["candidates"]) == 2 and found["frames"] == result["frames"] == 512
    assert result["candidates"]["chosen"] == found["chosen"]
    assert skill["task_reward"].split() == chosen["task_reward"].split() and skill["gate"]["sha256"] == chosen["sha256"]
    assert not {"candidates", "candidate_gates"} & skill.keys()
    assert skill_functions((folder / "0.py").read_text())[1].split() == chosen["task_reward"].split()
    assert "candidate_" not in (folder / "0.py").read_text()
    assert f"reward {found['chosen']} of 2 continues" in (folder / "training.log").read_text()
    (told,) = starts.state()["proposer"]["skills"]
    assert told["dropped"][0].startswith("reward 1: skill Collect_Wood: task_reward")


@pytest.mark.parametrize(
    ("of_server", "flags", "environ", "names"),
    [
        ({"key": "another"}, [], {"OPENAI_API_KEY": KEY}, ["rejects the key", "OPENAI_API_KEY"]),
        ({"models": {"b"}}, ["--llm_name", "a"], {}, ["does not know the model a", "--llm_name"]),
        ({}, ["--llm_base_url", "http://127.0.0.1:9/v1"], {}, ["127.0.0.1:9", "--llm_base_url"]),
        ({}, ["--llm_base_url", "localhost:9"], {}, ["'localhost:9'", "http://localhost:8000/v1"]),
        ({}, ["--llm_budget_usd", "0"], {}, ["--llm_budget_usd", "more than 0", "--proposer curriculum"]),
        ({}, ["--llm_mode", "replay"], {}, ["no recording 1-0-", "--llm_mode live"]),
        ({}, ["--llm_mode", "tape"], {}, ["--llm_mode", "'tape'", "live, record, replay"]),
        ({}, ["--max_repairs", "-1"], {}, ["--max_repairs", "0 or more"]),
        ({}, ["--llm_timeout_s", "0"], {}, ["--llm_timeout_s", "more than 0"]),
    ],
)
def test_bad_input_is_one_clear_line_before_anything_is_trained(starts, make_server, of_server, flags, environ, names):
    server = make_server(**of_server)
    address = [] if "--llm_base_url" in flags else ["--llm_base_url", server.url]
    code, _, error = starts.run(*CLASSIC, *address, *flags, **environ)
    assert (code, error.count("\n")) == (2, 1), error
    for name in names:
        assert name in error
    assert KEY not in error
    assert starts.files() == []


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({"ALL_PROXY": "socks5://me:hunter2@127.0.0.1:1"}, ["ALL_PROXY names a SOCKS proxy", "pip install socksio"]),
        ({"all_proxy": "socks://127.0.0.1:1"}, ["all_proxy does not name a usable proxy", "socks5://proxy:1080"]),
        ({"HTTPS_PROXY": "http://me:hunter2@proxy:99x"}, ["HTTPS_PROXY does not name a usable proxy", "unset it"]),
        ({"http_proxy": "http://127.0.0.1:999999"}, ["http_proxy does not name a usable proxy", "unset it"]),
        ({"SSL_CERT_FILE": "/nowhere.pem"}, ["SSL_CERT_FILE: ", "/nowhere.pem (No such file", "unset it"]),
        ({"SSL_CERT_FILE": "", "SSL_CERT_DIR": "/nowhere"}, ["SSL_CERT_DIR: there is no folder /nowhere", "unset it"]),
        ({"SSLKEYLOGFILE": "/nowhere/keys"}, ["SSLKEYLOGFILE: /nowhere/keys cannot be written", "unset it"]),
        ({"OPENAI_ORG_ID": "org\nhunter2"}, ["OPENAI_ORG_ID contains a line break", "unset it"]),
        ({"OPENAI_PROJECT_ID": "proj-é"}, ["OPENAI_PROJECT_ID contains a character outside ASCII", "unset it"]),
        ({"OPENAI_CUSTOM_HEADERS": "X-Key: hunter2\rx"}, ["OPENAI_CUSTOM_HEADERS: the value of X-Key", "unset it"]),
        (
            {"OPENAI_BASE_URL": "http://127.0.0.1:1/v1\r"},
            ["a line break", r"'http://127.0.0.1:1/v1\r'", "correct OPENAI_BASE_URL"],
        ),
        ({"OPENAI_BASE_URL": "http://127.0.0.1:99x/v1"}, ["the port is not a number", "correct OPENAI_BASE_URL"]),
        ({"OPENAI_BASE_URL": "http://[::1/v1"}, ["the brackets", "'http://[::1/v1'", "correct OPENAI_BASE_URL"]),
        ({"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}, ["start the server there, or correct OPENAI_BASE_URL"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_bad_environment_variable_is_one_line_that_names_it(starts, environ, names):
    code, output, error = starts.run(
        *CLASSIC, "--llm_name", "model-a", **{"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"} | environ
    )
    assert (code, error.count("\n")) == (2, 1), error
    for name in names:
        assert name in error
    assert "hunter2" not in error + output
    assert list(starts.folder.iterdir()) == []


def test_a_dry_run_makes_no_client(starts):
    bad = {"SSL_CERT_FILE": "/nowhere.pem", "ALL_PROXY": "socks://x", "OPENAI_API_KEY": "a\nb", "OPENAI_BASE_URL": "http://[\r"}
    code, output, error = starts.run(*CLASSIC, "--llm_name", "model-a", "--dry_run", **bad)
    assert (code, error, json.loads(output)["llm_name"]) == (0, "", "model-a")
    assert list(starts.folder.iterdir()) == []


def test_a_bad_environment_variable_stops_a_later_start_too_and_changes_nothing(starts, make_server):
    server = make_server()
    server.script(WOOD)
    flags = (*CLASSIC, "--max_nodes", "1", "--llm_base_url", server.url)
    assert starts.run(*flags)[0] == 0
    before = {path: path.read_bytes() for path in starts.files()}
    code, _, error = starts.run(*flags, SSL_CERT_FILE="/nowhere.pem")
    assert (code, error.count("\n")) == (2, 1) and "SSL_CERT_FILE" in error
    assert {path: path.read_bytes() for path in starts.files()} == before


def test_a_replay_ignores_the_environment_of_the_client(starts, make_server):
    server = make_server()
    server.script(WOOD)
    assert starts.run(*CLASSIC, "--max_nodes", "1", "--llm_base_url", server.url)[0] == 0
    shutil.copytree(starts.paths.llm, starts.folder / "again" / "llm")
    bad = {"SSL_CERT_FILE": "/nowhere.pem", "ALL_PROXY": "socks://x", "OPENAI_API_KEY": "a\nb"}
    code, output, error = starts.run(*CLASSIC, "--max_nodes", "1", "--llm_mode", "replay", root="again", **bad)
    assert (code, error) == (0, ""), output


@pytest.mark.parametrize("key", ["sk-one\nand-another", "sk-é-secret", "sk-one\r-secret"])
def test_a_key_that_cannot_be_sent_is_refused_at_once_and_not_shown(starts, server, key):
    flags = (*CLASSIC, "--llm_base_url", server.url)
    code, output, error = starts.run(*flags, OPENAI_API_KEY=key)
    assert (code, output, error.count("\n")) == (2, "", 1), error
    assert error.startswith("flowrl: OPENAI_API_KEY contains a ")
    assert "sk-" not in error and "secret" not in error
    assert server.requests == [] and starts.files() == []


def test_a_key_with_a_trailing_line_break_is_accepted(starts, make_server):
    server = make_server(key=KEY)
    server.script(WOOD)
    code, output, error = starts.run(*CLASSIC, "--max_nodes", "1", "--llm_base_url", server.url, OPENAI_API_KEY=f"{KEY}\n")
    assert (code, error) == (0, ""), output
    assert set(server.keys) == {KEY}


def test_a_training_that_ends_while_the_model_thinks_is_merged_and_reported_at_once(starts, make_server):
    server = make_server()
    server.script(WOOD, Hang())
    process = starts.start(*CLASSIC, "--max_nodes", "2", "--llm_base_url", server.url)
    for line in process.stdout:
        if "completed  Collect_Wood" in line:
            break
    assert len(server.questions) == 2  # the second one is still open
    assert starts.statuses() == {"Collect_Wood": "completed"}
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130


def test_a_model_that_fails_lets_training_finish_and_may_be_tried_again(starts, make_server):
    server = make_server()
    server.script(WOOD, Status(401, "key revoked", "invalid_api_key"))
    address = ("--llm_base_url", server.url)
    code, output, error = starts.run(*CLASSIC, "--max_nodes", "2", *address)
    assert (code, error) == (1, "")
    assert starts.statuses() == {"Collect_Wood": "completed"}
    proposer = starts.state()["proposer"]
    assert proposer["status"] == "proposer_error" and "key revoked" in proposer["last_error"]
    assert "The proposer gave up" in output and "OPENAI_API_KEY" in output
    server.script(SAPLING)
    assert starts.run()[0] == 0
    assert starts.statuses() == {"Collect_Wood": "completed", "Collect_Sapling": "completed"}
    assert len(server.requests) - len(server.questions) == 1  # the form was known from the recordings


def test_live_trainings_are_resumed_without_the_model(starts, make_server):
    server = make_server()
    server.script(WOOD, SAPLING)
    gate = starts.folder / "gate"
    wishes = {"*": {"gate": str(gate)}}
    flags = (*CLASSIC, "--max_nodes", "3", "--llm_timeout_s", "5", "--llm_base_url", server.url)
    process = starts.start(*flags, wishes=wishes)
    until(lambda: starts.paths.state.exists() and list(starts.statuses().values()) == ["running", "running"])
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    server.close()
    resumed = starts.start(wishes=wishes)
    for line in resumed.stdout:
        if "continuing: 0 of 2" in line:
            break
    gate.touch()
    output, error = resumed.communicate(timeout=120)
    assert (resumed.returncode, error) == (1, ""), output
    assert starts.statuses() == {"Collect_Wood": "completed", "Collect_Sapling": "completed"}
    assert {skill["attempt"] for skill in starts.state()["skills"]} == {1}
    assert "start the server there" in starts.state()["proposer"]["last_error"]


def test_the_budget_ends_proposing_and_training_finishes(starts, make_server):
    server = make_server()
    server.script(Say(WOOD.text, completion_tokens=3000))
    prices = starts.paths.root / "prices.json"
    prices.parent.mkdir()
    prices.write_text('{"models": {"model-a": {"prompt": 1, "completion": 10}}}')
    code, output, _ = starts.run(
        *CLASSIC, "--max_nodes", "4", "--llm_base_url", server.url, "--llm_name", "model-a", "--llm_budget_usd", "0.035"
    )
    assert code == 0, output
    assert starts.statuses() == {"Collect_Wood": "completed"}
    assert starts.state()["proposer"]["status"] == "budget_spent"
    assert "of the budget of $0.04 is spent" in output or "of $0.035" in output
    assert "model-a: about" in output[: output.index("proposed")]
