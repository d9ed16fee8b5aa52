"""Which GPUs trainings get, and the remark if they run on the CPU although the machine seems to have a GPU."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from flowrl.errors import BadInput
from flowrl.parallel import gpus
from flowrl.parallel.gpus import choose_gpus, cpu_remark, find_gpus, gpu_models, visible_gpus
from flowrl.parallel.slots import plan_slots

TWO = {"platform": "gpu", "models": ["NVIDIA H200", "Tesla T4"]}


class Machine:
    """What the tests say that this machine has."""

    def __init__(self, monkeypatch, folder):
        self._patch, self._folder = monkeypatch, folder
        self.asked = folder / "asked"
        for name in ("JAX_PLATFORMS", "CUDA_VISIBLE_DEVICES"):
            monkeypatch.delenv(name, raising=False)
        self.has(device=False, plugin=False)

    def has(self, device: bool, plugin: bool) -> None:
        node = self._folder / "nvidia0"
        node.touch() if device else node.unlink(missing_ok=True)
        self._patch.setattr(gpus, "DEVICE_NODES", (str(node),))
        self._patch.setattr(gpus.importlib.util, "find_spec", lambda name: object() if plugin else None)
        gpus._find.cache_clear()

    def jax_says(self, answer=None, complaint: str = "") -> None:
        """A GPU with its plugin, and what JAX answers; None: it ends with an error. Its environment is kept."""
        self.has(device=True, plugin=True)
        script = self._folder / "jax.py"
        lines = [
            "import json, os, sys",
            f"open({str(self.asked)!r}, 'a').write(json.dumps(dict(os.environ)) + chr(10))",
            f"print({complaint!r}, file=sys.stderr)",
            f"print({json.dumps(answer)!r})" if answer else "sys.exit(1)",
        ]
        script.write_text("\n".join(lines))
        self._patch.setattr(gpus, "ASK", (sys.executable, str(script)))

    def times_asked(self) -> int:
        return len(self.asked.read_text().splitlines()) if self.asked.exists() else 0


@pytest.fixture
def machine(monkeypatch, tmp_path):
    yield Machine(monkeypatch, tmp_path)
    gpus._find.cache_clear()


def test_gpus_are_chosen_among_the_visible_ones():
    assert choose_gpus(None, ["0", "1"]) == ["0", "1"]
    assert choose_gpus("1", ["0", "1"]) == ["1"]
    assert choose_gpus([0, 1], ["0", "1"]) == ["0", "1"]
    assert choose_gpus("none", ["0", "1"]) == []
    with pytest.raises(BadInput, match="--gpu_ids names 7, but the GPUs here are: 0, 1"):
        choose_gpus("0,7", ["0", "1"])


def test_a_machine_without_a_gpu_starts_no_process_and_says_nothing(machine, monkeypatch):
    def run(*arguments, **options):
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "run", run)
    assert visible_gpus() == [] and cpu_remark(None) is None
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert visible_gpus() == [] and cpu_remark(None) is None


def test_gpus_are_those_that_jax_finds_though_there_is_no_nvidia_smi(machine, monkeypatch, tmp_path):
    machine.jax_says(TWO)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("OPENAI_API_KEY", "secret-of-mine")
    assert visible_gpus() == ["0", "1"] and gpu_models(["1", "0"]) == ["Tesla T4", "NVIDIA H200"]
    assert [slot.gpu for slot in plan_slots(3)] == ["0", "1"]
    assert cpu_remark(None) is None
    assert machine.times_asked() == 1
    environment = json.loads(machine.asked.read_text())
    assert environment["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false" and "secret-of-mine" not in environment.values()


@pytest.mark.parametrize(
    ("allowed", "count", "left"),
    [("1", 1, ["1"]), ("GPU-2,GPU-1", 2, ["GPU-2", "GPU-1"]), ("0,-1,1", 1, ["0"]), ("3, 1", 2, ["3", "1"])],
)
def test_a_gpu_keeps_the_name_that_it_has_outside(machine, monkeypatch, allowed, count, left):
    """JAX numbers the GPUs that CUDA_VISIBLE_DEVICES leaves; a run gets the name from that variable."""
    machine.jax_says({"platform": "gpu", "models": ["T4"] * count})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", allowed)
    assert visible_gpus() == left
    assert json.loads(machine.asked.read_text())["CUDA_VISIBLE_DEVICES"] == allowed


@pytest.mark.parametrize("allowed", ["", "-1", "-1,0"])
def test_gpus_that_are_hidden_are_told(machine, monkeypatch, allowed):
    machine.jax_says(TWO)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", allowed)
    assert visible_gpus() == [] and machine.times_asked() == 0
    assert f"trainings run on the CPU: CUDA_VISIBLE_DEVICES={allowed!r} hides all GPUs; unset it" in cpu_remark(None)


def test_a_gpu_that_jax_cannot_use_is_told_with_jaxs_own_reason(machine):
    machine.jax_says(None, "Traceback\nRuntimeError: the driver is too old")
    assert visible_gpus() == []
    assert "finds no GPU that works: RuntimeError: the driver is too old; to see more: " in cpu_remark(None)
    assert plan_slots(1)[0].gpu is None
    machine.jax_says({"platform": "cpu", "models": ["cpu"]}, "WARNING: falling back to cpu.")
    assert "WARNING: falling back to cpu." in cpu_remark(None)
    machine.jax_says({"platform": "cpu", "models": ["cpu"]})
    assert "it runs on the CPU and does not say why" in cpu_remark(None)


def test_a_jax_that_does_not_answer_is_not_waited_for_without_end(machine, monkeypatch, tmp_path):
    machine.has(device=True, plugin=True)
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(600)")
    monkeypatch.setattr(gpus, "ASK", (sys.executable, str(tmp_path / "slow.py")))
    monkeypatch.setattr(gpus, "ANSWER_S", 0.5)
    assert "did not answer within 0.5 s" in cpu_remark(None)


def test_a_gpu_without_its_plugin_is_told_with_the_command_that_installs_it(machine):
    machine.has(device=True, plugin=False)
    assert visible_gpus() == []
    assert "no CUDA plugin; install it: pip install 'jax[cuda12]==" in cpu_remark(None)


def test_a_plugin_without_a_gpu_is_told(machine):
    machine.has(device=False, plugin=True)
    assert visible_gpus() == []
    assert "there is no GPU here" in cpu_remark(None) and "--gpus all" in cpu_remark(None)


def test_a_gpu_that_jax_platforms_leaves_out_is_told(machine, monkeypatch):
    machine.jax_says(TWO)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert visible_gpus() == [] and machine.times_asked() == 0
    assert "JAX_PLATFORMS=cpu is set, and there is a GPU" in cpu_remark(None)
    assert cpu_remark("none") is None  # no remark for a user who asked for the CPU


@pytest.mark.parametrize("platforms", ["cuda", "gpu,cpu"])
def test_a_gpu_that_is_demanded_and_missing_is_refused(machine, monkeypatch, platforms):
    """JAX would end every training with an error."""
    monkeypatch.setenv("JAX_PLATFORMS", platforms)
    expected = f"JAX_PLATFORMS={platforms} asks for a GPU: jax has no CUDA plugin; .*unset the variable"
    with pytest.raises(BadInput, match=expected):
        plan_slots(1)


def test_a_gpu_that_is_named_and_missing_is_refused_with_the_reason(machine):
    machine.has(device=True, plugin=False)
    with pytest.raises(BadInput, match="--gpu_ids names 0, but the GPUs here are: none .*no CUDA plugin"):
        plan_slots(1, gpu_ids="0")


def test_the_process_that_asks_jax_gives_its_answer(monkeypatch):
    """Its real one: on this machine, whatever it has."""
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    said = subprocess.run(gpus.ASK, capture_output=True, text=True, check=True)
    answer = json.loads(said.stdout.splitlines()[-1])
    assert answer["platform"] == "cpu" and len(answer["models"]) >= 1


def test_jax_is_really_asked_where_the_signs_are_there(machine, monkeypatch):
    """Without its plugin, JAX runs on the CPU; the reason is the last line that it wrote."""
    machine.has(device=True, plugin=True)
    found = find_gpus()
    assert found.ids == () and "finds no GPU that works" in found.why_none
