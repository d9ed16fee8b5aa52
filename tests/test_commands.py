"""One command that lists what there is; the module commands that people type stay."""

import json
import subprocess
import sys

import pytest

import flowrl
from flowrl.__main__ import main
from flowrl.commands import COMMANDS


def test_without_a_command_all_are_listed(capsys):
    assert main([]) == 0
    listed = capsys.readouterr().out
    assert all(f"  {name} " in listed for name in COMMANDS)


def test_an_unknown_command_is_one_line_with_the_nearest_one(capsys):
    assert main(["migrat"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "'migrat'" in error and "did you mean migrate?" in error


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == flowrl.__version__


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert "usage:" in capsys.readouterr().out


def test_grow_is_the_front_door(capsys):
    assert main(["grow", "--dry_run", "--proposer", "curriculum", "--max_nodes", "7"]) == 0
    assert json.loads(capsys.readouterr().out)["max_nodes"] == 7


@pytest.mark.parametrize("module", ["flowrl", "flowrl.bottomup_parallel", "flowrl.migrate"])
def test_the_module_commands_answer(module):
    done = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "usage:" in done.stdout
