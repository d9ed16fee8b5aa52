"""``python -m flowrl.gate.probe ENV_NAME FOLDER``: tries generated code on recorded states, each skill in its own child.

One warm process serves many probes. It imports jax and loads the recorded states, but never starts jax's CPU backend, so
that it can be forked: a child behind limits and kernel filters (`flowrl.gate.sandbox`) answers each question. For each line
of JSON on standard input, ``{"skill_data": ...}``, it writes one to standard output, the report. Its first line says that
it is ready. It ends when its input ends.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from flowrl.envs.registry import make_steps
from flowrl.envs.steps import GameSteps
from flowrl.errors import BadInput
from flowrl.gate import recorded_states
from flowrl.gate.execution import COMPILED_WITHOUT_KERNELS, QUICKLY_COMPILED, CodeFault, CompilerFault
from flowrl.gate.recorded_states import RecordedStates
from flowrl.gate.rules import examine
from flowrl.gate.sandbox import Child, Limits, Protection, Response
from flowrl.skills.checks import CodeRefused, check_skill_code
from flowrl.skills.fingerprint import fingerprint
from flowrl.skills.gate_report import RAN, UNTRIED
from flowrl.skills.spec import SkillSpec

_UNANSWERED = {
    "time": "too_slow: trying the two functions took more than {limits.cpu_s} s of CPU time or {limits.wall_s:g} s; make them "
    "smaller",
    "memory": "too_big: the two functions need more than {limits.memory_mb} MB; make their arrays smaller",
    "crashed": "crashed: the process that tried the two functions died, also with other compiler options; write them with "
    "plain jnp functions",
}
_UNTRIED = (
    "skill {name} is trained without having been tried: XLA fails on it in the gate, with two sets of options ({fault}), "
    "which is not a fault of its code; watch its success rate"
)
LIMITS = Limits()
_COMPILER_OPTIONS = (QUICKLY_COMPILED, COMPILED_WITHOUT_KERNELS)


class Probe:
    """Tries the skills of one game."""

    def __init__(self, game_steps: GameSteps, recorded: RecordedStates, limits: Limits = LIMITS):
        self.game_steps, self.recorded, self.limits = game_steps, recorded, limits

    def report(self, spec: SkillSpec) -> dict[str, Any]:
        """Judges one skill.

        Returns:
            ``passed``, ``reason`` (None if passed) and ``message`` (None if there is nothing to say), ``sha256`` of the two
            functions as compiled, ``checks`` with what was seen, ``seconds``, ``sandbox``, ``probe`` (``untried`` if the
            compiler failed, so that the rules could not be checked).
        """
        begun_s = time.monotonic()
        report = {"passed": False, "reason": None, "message": None, "sha256": None, "checks": [], "probe": RAN}
        sandbox = None
        try:
            check_skill_code(spec, self.game_steps.facts)
            report["sha256"] = fingerprint(spec.task_is_done, spec.task_reward)
            sandbox, response = self._tried(spec)
            report |= self._judged(spec, response)
        except CodeRefused as refused:
            report |= {"reason": refused.reason, "message": str(refused)}
        seconds = round(time.monotonic() - begun_s, 3)
        return report | {"seconds": seconds, "sandbox": sandbox and asdict(sandbox)}

    def _tried(self, spec: SkillSpec) -> tuple[Protection, Response]:
        """A child's response about a skill; if the compiler may have failed, that of a second child with other options."""
        for compiler_options in _COMPILER_OPTIONS:
            protection, response = self._ask(spec, compiler_options)
            if not (response.kind == "crashed" or _compiler_fault(response)):
                break
        return protection, response

    def _ask(self, spec: SkillSpec, compiler_options: dict[str, Any]) -> tuple[Protection, Response]:
        child = Child(lambda: None, partial(self._examine, compiler_options), self.limits)
        protection = child.protection()
        if protection is None:
            child.end()
            raise RuntimeError("the probe's child process died before it was asked; see the lines above")
        return protection, child.ask(spec.to_data())

    def _judged(self, spec: SkillSpec, response: Response) -> dict[str, Any]:
        if fault := _compiler_fault(response):
            return {"passed": True, "probe": UNTRIED, "message": _UNTRIED.format(name=spec.name, fault=fault)}
        if response.kind == "answered":
            answer = response.answer
            if answer["reason"] is None:
                return {"passed": True, "checks": answer["checks"]}
            return {"reason": answer["reason"], "message": f"skill {spec.name}: {answer['message']}"}
        text = _UNANSWERED.get(
            response.kind,
            f"crashed: the two functions could not be tried ({response.answer}); write them with plain jnp functions",
        )
        text = text.format(limits=self.limits) if text in _UNANSWERED.values() else text
        return {"reason": text.partition(":")[0], "message": f"skill {spec.name}: {text}"}

    def _examine(self, compiler_options: dict[str, Any], skill_data: dict[str, Any]) -> dict[str, Any]:
        try:
            checks = examine(SkillSpec.from_data(skill_data), self.game_steps, self.recorded, compiler_options)
            return {"reason": None, "message": None, "checks": checks}
        except CodeFault as fault:
            return {"reason": fault.reason, "message": str(fault), "checks": []}
        except CompilerFault as fault:
            return {"compiler_fault": str(fault)}


def _compiler_fault(response: Response) -> str | None:
    """The compiler's error, if the response is one."""
    return response.answer.get("compiler_fault") if response.kind == "answered" else None


def main(arguments: list[str]) -> int:
    """Serves until standard input ends."""
    env_name, folder = arguments[0], Path(arguments[1])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # so that nothing else is printed between the answers
    probe = Probe(make_steps(env_name), _recorded(env_name, folder))
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        report = probe.report(SkillSpec.from_data(json.loads(line)["skill_data"]))
        print(json.dumps(report), file=answers, flush=True)
    return 0


def _recorded(env_name: str, folder: Path) -> RecordedStates:
    """The recorded states; if missing, another process records them: playing starts jax's backend, and this one must not."""
    try:
        return recorded_states.load(env_name, folder)
    except FileNotFoundError:
        subprocess.run([sys.executable, "-P", "-m", "flowrl.gate.recorded_states", env_name, str(folder)], check=True)
        return recorded_states.load(env_name, folder)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
