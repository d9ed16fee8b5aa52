"""The generated module of a run, ``2.py``: index maps and the two functions of every task of its plan.

If several rewards of the run's own skill are on trial, the others follow after the last task.

The module is Python, so that people can read it, but it is never imported: :func:`read_module` and :func:`compile_module`
parse it as a tree, and accept only what :func:`render_module` writes.
"""

from __future__ import annotations

import ast
import builtins
import itertools
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flowrl.errors import BadInput
from flowrl.skills.checks import check_function, parse_function
from flowrl.skills.language import BUILTINS, FUNCTION_NAMES
from flowrl.skills.parsing import parse
from flowrl.skills.spec import check_name

_TITLE = re.compile(r"# Auto-generated training module for: (\S+)")
_INDEX = re.compile(r"# Global expert index: (\d+)")
_TASK = re.compile(r"# Task (\d+): (\S+), n = (\d+), local expert (\d+)")
_SUFFIXES = {"task_is_done": "is_done", "task_reward": "reward"}


@dataclass(frozen=True)
class TaskSource:
    """One task of a plan: its skill, ``n``, the local expert, and the skill's two functions as source."""

    skill_name: str
    n: int
    local_expert_idx: int
    task_is_done: str
    task_reward: str


@dataclass(frozen=True)
class ModuleSource:
    """The contents of a generated module."""

    skill_name: str
    global_expert_idx: int
    global_to_local: dict[int, int]
    local_to_global: dict[int, int]
    tasks: list[TaskSource]
    candidates: list[str]
    """Other rewards of the last task that are on trial; usually none."""

    @property
    def rewards(self) -> list[str]:
        """All rewards of the last task, its own first."""
        return [self.tasks[-1].task_reward, *self.candidates]


@dataclass(frozen=True)
class TaskFunctions:
    """One task's compiled functions, with the features that each takes, in the order of its parameters."""

    is_done: Callable[..., Any]
    is_done_params: tuple[str, ...]
    reward: Callable[..., Any]
    reward_params: tuple[str, ...]


def render_module(
    skill_name: str,
    global_expert_idx: int,
    global_to_local: Mapping[int, int],
    tasks: Sequence[TaskSource],
    candidates: Sequence[str] = (),
) -> str:
    """The text of a run's module. Task ``k``'s functions are called ``task_k_is_done`` and ``task_k_reward``.

    Args:
        candidates: other rewards of the last task, called ``candidate_k_reward``, counted from 1.

    Raises:
        CodeRefused: a task's source is not one function of the expected name.
    """
    local_to_global = {local: index for index, local in global_to_local.items()}
    header = [
        f"# Auto-generated training module for: {check_name(skill_name)}",
        f"# Global expert index: {global_expert_idx}",
        f"GLOBAL_TO_LOCAL = {dict(global_to_local)}",
        f"LOCAL_TO_GLOBAL = {local_to_global}",
    ]
    parts = [_render_task(index, task) for index, task in enumerate(tasks)]
    parts += [_render_candidate(number, skill_name, source) for number, source in enumerate(candidates, 1)]
    return "\n".join(header) + "\n" + "".join(parts)


def read_module(text: str) -> ModuleSource:
    """The contents of a module; the inverse of :func:`render_module`, with the original function names restored.

    Raises:
        BadInput: the text is not a generated module.
    """
    lines = text.splitlines()
    title = _TITLE.fullmatch(lines[0]) if lines else None
    index = _INDEX.fullmatch(lines[1]) if len(lines) > 1 else None
    if not title or not index:
        raise _not_a_module("its first two lines do not name the skill and its global expert index")
    maps, functions, others = _parts(text)
    headings = [match for match in map(_TASK.fullmatch, lines) if match]
    if [int(heading[1]) for heading in headings] != list(range(len(functions))):
        raise _not_a_module(f"it has functions for {len(functions)} tasks, but {len(headings)} headings")
    tasks = [
        TaskSource(heading[2], int(heading[3]), int(heading[4]), **_restored(pair))
        for index, (heading, pair) in enumerate(zip(headings, functions))
    ]
    candidates = [_restored({"task_reward": tree})["task_reward"] for tree in others]
    return ModuleSource(title[1], int(index[1]), maps["GLOBAL_TO_LOCAL"], maps["LOCAL_TO_GLOBAL"], tasks, candidates)


def compile_module(text: str, scope: Mapping[str, Any], features: Collection[str]) -> list[TaskFunctions]:
    """The functions of every task, ready to be traced.

    Args:
        text: a module that :func:`render_module` wrote.
        scope: the names that skill code may use (``jnp``, the game's constants), with their values.
        features: the parameter names that the functions may have.

    Raises:
        CodeRefused: a function fails the static checks, which are repeated here.
        BadInput: the text is not a generated module.
    """
    _, pairs, _ = _parts(text)
    return [
        TaskFunctions(*_compiled(pair["task_is_done"], scope, features), *_compiled(pair["task_reward"], scope, features))
        for pair in pairs
    ]


def compile_rewards(text: str, scope: Mapping[str, Any], features: Collection[str]) -> list[TaskFunctions]:
    """The last task's functions with each of its rewards: first its own, then the others on trial.

    Raises:
        CodeRefused, BadInput: as :func:`compile_module`.
    """
    _, pairs, others = _parts(text)
    is_done = _compiled(pairs[-1]["task_is_done"], scope, features)
    return [TaskFunctions(*is_done, *_compiled(tree, scope, features)) for tree in (pairs[-1]["task_reward"], *others)]


def with_reward(text: str, number: int) -> str:
    """The module with only one of the rewards on trial, as the reward of its skill.

    Args:
        number: of the reward; 1 is the last task's own.

    Raises:
        BadInput: the text is not a generated module, or has no such reward.
    """
    module = read_module(text)
    if not 1 <= number <= len(module.rewards):
        raise BadInput(f"the module of {module.skill_name} has no reward {number}; choose one from 1 to {len(module.rewards)}")
    chosen = module.rewards[number - 1]
    tasks = [replace(task, task_reward=chosen) if task.skill_name == module.skill_name else task for task in module.tasks]
    return render_module(module.skill_name, module.global_expert_idx, module.global_to_local, tasks)


def skill_functions(text: str, task_index: int = -1) -> tuple[str, str]:
    """The sources of one task's ``task_is_done`` and ``task_reward``, under these names.

    The last task is the module's own skill, so an archived ``skills/0_Collect_Wood/0.py`` gives that skill's functions.
    """
    task = read_module(text).tasks[task_index]
    return task.task_is_done, task.task_reward


def _render_task(index: int, task: TaskSource) -> str:
    heading = f"# Task {index}: {check_name(task.skill_name)}, n = {task.n}, local expert {task.local_expert_idx}"
    functions = [_renamed(getattr(task, name), name, _task_function_name(index, name)) for name in FUNCTION_NAMES]
    return f"\n\n{heading}\n" + "\n\n\n".join(functions) + "\n"


def _render_candidate(number: int, skill_name: str, source: str) -> str:
    heading = f"# Candidate {number}: another reward of {check_name(skill_name)}, on trial"
    return f"\n\n{heading}\n{_renamed(source, 'task_reward', _candidate_name(number))}\n"


def _renamed(source: str, name: str, new_name: str) -> str:
    function = parse_function(source, name)  # drops strings, which could contain a line that looks like a heading
    function.name = new_name
    return ast.unparse(function)


def _parts(text: str) -> tuple[dict[str, dict[int, int]], list[dict[str, ast.FunctionDef]], list[ast.FunctionDef]]:
    """A module's two index maps, each task's two function trees, and those of the other rewards on trial."""
    try:
        body = parse(text).body
        maps = {node.targets[0].id: ast.literal_eval(node.value) for node in body[:2]}
        trees = {node.name: node for node in body[2:]}
    except (SyntaxError, ValueError, AttributeError, IndexError, RecursionError, MemoryError) as error:
        raise _not_a_module(f"it is not Python of the expected shape ({type(error).__name__})") from error
    if set(maps) != {"GLOBAL_TO_LOCAL", "LOCAL_TO_GLOBAL"} or not all(map(_is_index_map, maps.values())):
        raise _not_a_module("GLOBAL_TO_LOCAL and LOCAL_TO_GLOBAL are not two maps of indices")
    num_candidates = sum(name.startswith("candidate_") for name in trees)
    num_tasks = (len(trees) - num_candidates) // 2
    of_tasks = [[_task_function_name(index, name) for name in FUNCTION_NAMES] for index in range(num_tasks)]
    of_candidates = [_candidate_name(number) for number in range(1, num_candidates + 1)]
    expected = [*itertools.chain(*of_tasks), *of_candidates]
    if not of_tasks or list(trees) != expected or not all(isinstance(tree, ast.FunctionDef) for tree in trees.values()):
        raise _not_a_module("its functions are not task_0_is_done, task_0_reward, task_1_is_done, ... in order")
    pairs = [dict(zip(FUNCTION_NAMES, (trees[name] for name in names))) for names in of_tasks]
    return maps, pairs, [trees[name] for name in of_candidates]


def _restored(functions: dict[str, ast.FunctionDef]) -> dict[str, str]:
    for name, function in functions.items():
        function.name = name
    return {name: ast.unparse(function) for name, function in functions.items()}


def _compiled(
    function: ast.FunctionDef, scope: Mapping[str, Any], features: Collection[str]
) -> tuple[Callable[..., Any], tuple[str, ...]]:
    check_function(function, features, scope.keys())
    allowed = {name: getattr(builtins, name) for name in BUILTINS}
    namespace: dict[str, Any] = {"__builtins__": allowed, **scope}
    module = ast.Module(body=[function], type_ignores=[])
    exec(compile(module, f"<{function.name}>", "exec"), namespace)  # exactly the tree that the checks accepted
    return namespace[function.name], tuple(argument.arg for argument in function.args.args)


def _task_function_name(index: int, name: str) -> str:
    return f"task_{index}_{_SUFFIXES[name]}"


def _candidate_name(number: int) -> str:
    return f"candidate_{number}_reward"


def _is_index_map(value: Any) -> bool:
    return isinstance(value, dict) and all(type(index) is int for pair in value.items() for index in pair)


def _not_a_module(reason: str) -> BadInput:
    return BadInput(f"this is not a generated training module: {reason}; prepare the run again to write a new one")
