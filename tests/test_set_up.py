"""What `make demo` and `make test` install before anything else, on machines that lack it."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from flowrl.parallel.processes import COOKIE

ROOT = Path(__file__).parents[1]
NEEDED = "bash env mktemp rm tail timeout dirname head mkdir mv sleep".split()
"""What the scripts themselves use."""
HANGS = "exec sleep 60"


@pytest.fixture
def machine(tmp_path):
    """Runs a script of this repository on a machine that has only the named commands, each of which notes how it was called."""

    def run(script: Path, arguments: Sequence[str], commands: Sequence[str], **does: str) -> tuple[int, str, str, list[str]]:
        folder, calls = tmp_path / "bin", tmp_path / "calls"
        folder.mkdir()
        calls.touch()
        for name in NEEDED:
            (folder / name).symlink_to(shutil.which(name))
        # `id -u` says 0: whoever is root is asked for no password.
        scripts = {"id": "echo 0"} | {name: f'echo "${{0##*/}} $*" >>{calls}\n{does.get(name, "")}' for name in commands}
        for name, body in scripts.items():
            (folder / name).write_text(f"#!{shutil.which('bash')}\n{body}\n")
            (folder / name).chmod(0o755)
        environment = {"PATH": str(folder), "TMPDIR": str(tmp_path), "LIMIT_S": "1"}
        command = [folder / "bash", script, *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=50)
        return done.returncode, done.stdout, done.stderr, calls.read_text().splitlines()

    return run


@pytest.fixture
def install(machine):
    """What `make setup` installs, on such a machine."""
    return lambda *commands, **does: machine(ROOT / "scripts" / "install_tools.sh", ("tmux", "jq", "watch"), commands, **does)


def test_apt_is_asked_for_what_is_missing_under_the_names_of_its_packages(install):
    code, _, error, calls = install("apt-get")
    assert (code, error) == (0, "")
    install_them = "apt-get install -y --no-install-recommends tmux jq procps"
    assert calls == ["apt-get update", f"{install_them} --download-only", install_them]


def test_where_the_network_does_not_answer_it_is_soon_given_up(install):
    code, _, error, calls = install("apt-get", **{"apt-get": HANGS})
    assert (code, calls) == (1, ["apt-get update"])
    assert "no answer within 1 s\nMissing, and not installed automatically: tmux jq watch. Run `sudo apt-get install" in error


def test_brew_is_asked_for_what_is_missing_and_no_more(install):
    code, _, _, calls = install("brew", "tmux", "jq")
    assert (code, calls) == (0, ["brew install watch"])


def test_where_neither_is_there_one_line_says_what_to_install(install):
    code, _, error, calls = install("jq")
    assert (code, calls, error.count("\n")) == (1, [], 1)
    assert "tmux watch" in error and "package manager" in error


def test_nothing_is_installed_or_said_where_all_is_there(install):
    assert install("apt-get", "tmux", "jq", "watch") == (0, "", "", [])


@pytest.fixture
def prepare(machine, tmp_path):
    """What `make test` gets for the tests of the report's page, for a copy of this repository that has only scripts."""
    copy = tmp_path / "copy" / "scripts"
    shutil.copytree(ROOT / "scripts", copy)
    return lambda *commands, **does: machine(copy / "prepare_tests.sh", (), commands, **does)


PACKS = 'echo packed >"$4/axe-core-${2#*@}.tgz"'
"""What `npm pack axe-core@VERSION --pack-destination FOLDER` does."""


def test_the_tests_of_the_page_get_a_browser_and_axe_and_an_older_axe_goes(prepare, tmp_path):
    older = tmp_path / "copy/.axe-core/axe-core-4.0.0.tgz"
    older.parent.mkdir(parents=True)
    older.touch()
    code, _, error, calls = prepare("apt-get", "npm", npm=PACKS)
    assert (code, error) == (0, "") and calls[2] == "apt-get install -y --no-install-recommends chromium"
    assert [path.read_text() for path in older.parent.iterdir()] == ["packed\n"]


def test_what_is_there_is_not_fetched_again(prepare, tmp_path):
    version = re.search("axe_version=(.+)", (ROOT / "scripts" / "prepare_tests.sh").read_text())[1]
    there = tmp_path / f"copy/.axe-core/axe-core-{version}.tgz"
    there.parent.mkdir(parents=True)
    there.touch()
    assert prepare("apt-get", "npm", "chromium") == (0, "", "", [])


def test_tests_go_on_without_what_cannot_be_had_and_that_is_said(prepare):
    code, _, error, calls = prepare("apt-get", "npm", **{"apt-get": "echo no such package; exit 100"})
    assert code == 0 and len(calls) == 2
    assert "no such package" in error and "sudo apt-get install chromium" in error
    assert "make test continues WITHOUT the report's page in a browser" in error


@pytest.mark.parametrize(
    ("commands", "why"),
    [(["brew"], "the report's page in a browser: install Chromium"),
     (["chromium"], "axe-core on the report's page: npm is missing"),
     (["chromium", "npm"], "axe-core on the report's page: npm could not fetch it (npm error code EAI_AGAIN)")],
)  # fmt: skip
def test_without_apt_npm_or_the_registry_tests_go_on_too(prepare, commands, why):
    code, _, error, calls = prepare(*commands, npm="echo 'npm error code EAI_AGAIN' >&2; exit 1")
    assert code == 0 and f"make test continues WITHOUT {why}" in error and error.count("\n") == 1
    assert not any(call.startswith("brew") for call in calls)


def test_the_set_up_takes_the_pythons_that_the_package_admits_and_the_readme_names(tmp_path):
    """Each version in turn is what a command says of itself."""
    admitted = SpecifierSet(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"])
    for version in ("3.10", "3.11", "3.12", "3.13", "3.14", "3.15"):
        python = tmp_path / f"python{version}"
        claim = f"import sys; sys.version_info = ({version.replace('.', ', ')}, 0); exec(sys.stdin.read())"
        python.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{claim}'\n")
        python.chmod(0o755)
        environ = os.environ | {"PYTHON": str(python)}
        done = subprocess.run([ROOT / "scripts" / "find_python.sh"], env=environ, capture_output=True, text=True, check=False)
        assert (done.returncode == 0) == (f"{version}.1" in admitted) == (done.stdout == f"{python}\n"), done.stderr
    assert "Python 3.11, 3.12 or 3.13" in (ROOT / "README.md").read_text()


def test_an_experiment_that_is_forgotten_has_no_trainings_left(tmp_path):
    folder = tmp_path / "exp" / "demo"

    def run_of(experiment):
        environment = os.environ | {COOKIE: f"{experiment}/training_runs/skill_0_Collect_Wood#1"}
        # One that would not end by itself, as a training that is busy saving.
        code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(300)"
        process = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "up\n"
        return process

    mine, others = run_of(folder), run_of(tmp_path / "exp" / "demo2")
    command = [sys.executable, str(ROOT / "scripts" / "end_trainings.py"), f"{folder}/"]
    try:
        for _ in range(2):  # again, with nothing left to do
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert (done.returncode, done.stderr) == (0, "")
        assert mine.wait(timeout=10) == -9
        assert others.poll() is None
    finally:
        for process in (mine, others):
            process.kill()
            process.communicate()
