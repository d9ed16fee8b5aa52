"""What `make demo` and `make test` install before anything else, on machines that lack it."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from flowrl.parallel.processes import COOKIE

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts" / "install_tools.sh"
NEEDED = ("bash", "env", "mktemp", "rm", "tail")
"""What the script itself uses."""


@pytest.fixture
def install(tmp_path):
    """Runs the script on a machine that has only the named commands, each of which writes down how it was called."""

    def run(*commands: str) -> tuple[int, str, str, list[str]]:
        folder, calls = tmp_path / "bin", tmp_path / "calls"
        folder.mkdir()
        calls.touch()
        for name in NEEDED:
            (folder / name).symlink_to(shutil.which(name))
        # `id -u` says 0: whoever is root is asked for no password.
        scripts = {"id": "echo 0"} | dict.fromkeys(commands, f'echo "${{0##*/}} $*" >>{calls}')
        for name, does in scripts.items():
            (folder / name).write_text(f"#!{shutil.which('bash')}\n{does}\n")
            (folder / name).chmod(0o755)
        environment = {"PATH": str(folder), "TMPDIR": str(tmp_path)}
        done = subprocess.run([folder / "bash", SCRIPT], env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr, calls.read_text().splitlines()

    return run


def test_apt_is_asked_for_what_is_missing_under_the_names_of_its_packages(install):
    code, _, error, calls = install("apt-get")
    assert (code, error) == (0, "")
    assert calls == ["apt-get update", "apt-get install -y --no-install-recommends tmux jq procps"]


def test_brew_is_asked_for_what_is_missing_and_no_more(install):
    code, _, _, calls = install("brew", "tmux", "jq")
    assert (code, calls) == (0, ["brew install watch"])


def test_where_neither_is_there_one_line_says_what_to_install(install):
    code, _, error, calls = install("jq")
    assert (code, calls, error.count("\n")) == (1, [], 1)
    assert "flowrl needs tmux watch" in error and "package manager" in error


def test_nothing_is_installed_or_said_where_all_is_there(install):
    assert install("apt-get", "tmux", "jq", "watch") == (0, "", "", [])


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
