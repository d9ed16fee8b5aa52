import ast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowrl.errors import BadInput
from flowrl.skills.checks import CodeRefused
from flowrl.skills.module import TaskSource, compile_module, read_module, render_module, skill_functions
from tests.skills.builders import FACTS, IS_DONE, REWARD

EXPRESSIONS = st.recursive(
    st.sampled_from(["n", "1", "0.25", "inventory.wood", "player_level", "BlockType.TREE.value", "True"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(" ".join).map("({})".format),
        st.tuples(inner, inner).map(lambda pair: "jnp.maximum({}, {})".format(*pair)),
        inner.map("abs({})".format),
    ),
    max_leaves=8,
)


@st.composite
def functions(draw, name):
    lines = [f"x{index} = {draw(EXPRESSIONS)}" for index in range(draw(st.integers(0, 3)))]
    body = "\n    ".join([*lines, f"return {draw(EXPRESSIONS)}"])
    order = draw(st.permutations(["inventory", "n", "player_level"]))
    return f"def {name}({', '.join(order)}):\n    {body}\n"


TASKS = st.lists(
    st.builds(
        TaskSource,
        skill_name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,20}", fullmatch=True),
        n=st.integers(1, 99),
        local_expert_idx=st.integers(0, 30),
        task_is_done=functions("task_is_done"),
        task_reward=functions("task_reward"),
    ),
    min_size=1,
    max_size=4,
)


def same_code(first: str, second: str) -> bool:
    return ast.dump(ast.parse(first)) == ast.dump(ast.parse(second))


@settings(deadline=None)
@given(TASKS, st.lists(st.integers(0, 99), min_size=1, unique=True))
def test_reading_a_module_gives_what_was_rendered(tasks, indices):
    global_to_local = {index: local for local, index in enumerate(sorted(indices))}
    text = render_module("Make_Pickaxe", max(indices), global_to_local, tasks)
    found = read_module(text)
    assert (found.skill_name, found.global_expert_idx) == ("Make_Pickaxe", max(indices))
    assert found.global_to_local == global_to_local
    assert found.local_to_global == {local: index for index, local in global_to_local.items()}
    for read, given_task in zip(found.tasks, tasks, strict=True):
        assert (read.skill_name, read.n, read.local_expert_idx) == (
            given_task.skill_name,
            given_task.n,
            given_task.local_expert_idx,
        )
        assert same_code(read.task_is_done, given_task.task_is_done)
        assert same_code(read.task_reward, given_task.task_reward)
    assert render_module(found.skill_name, found.global_expert_idx, found.global_to_local, found.tasks) == text


def module(*tasks, **code):
    sources = {"task_is_done": IS_DONE, "task_reward": REWARD, **code}
    return render_module(
        "Make_Pickaxe", 10, {0: 0, 5: 1, 10: 2}, [TaskSource(name, n, local, **sources) for name, n, local in tasks]
    )


def test_a_module_begins_as_the_docs_show():
    assert module(("Collect_Wood", 3, 0)).splitlines()[:4] == [
        "# Auto-generated training module for: Make_Pickaxe",
        "# Global expert index: 10",
        "GLOBAL_TO_LOCAL = {0: 0, 5: 1, 10: 2}",
        "LOCAL_TO_GLOBAL = {0: 0, 1: 5, 2: 10}",
    ]


def test_each_task_has_a_heading_and_two_functions():
    text = module(("Collect_Wood", 3, 0), ("Make_Pickaxe", 1, 2))
    assert "# Task 0: Collect_Wood, n = 3, local expert 0\ndef task_0_is_done(inventory, n):" in text
    assert "# Task 1: Make_Pickaxe, n = 1, local expert 2\ndef task_1_is_done(inventory, n):" in text
    assert "def task_1_reward(inventory_diff):" in text
    ast.parse(text)


def test_an_archived_module_gives_back_its_skills_functions_under_their_own_names():
    other = "def task_is_done(n):\n    return n > 4\n"
    tasks = [TaskSource("Collect_Wood", 3, 0, other, REWARD), TaskSource("Make_Pickaxe", 1, 1, IS_DONE, REWARD)]
    text = render_module("Make_Pickaxe", 1, {0: 0, 1: 1}, tasks)
    is_done, reward = skill_functions(text)
    assert same_code(is_done, IS_DONE) and same_code(reward, REWARD)
    assert same_code(skill_functions(text, 0)[0], other)


class Wood:
    """An inventory, or its change over a step."""

    def __init__(self, wood):
        self.wood = wood


def test_compiled_functions_list_their_features_and_compute_what_they_should():
    reward = "def task_reward(health_penalty, inventory_diff):\n    return 2 * inventory_diff.wood + health_penalty\n"
    first, second = compile_module(module(("A", 1, 0), ("B", 2, 1), task_reward=reward), {}, FACTS.feature_names)
    assert second.is_done_params == ("inventory", "n")
    assert second.reward_params == ("health_penalty", "inventory_diff")
    assert second.is_done(Wood(2), 2) and not second.is_done(Wood(1), 2)
    assert first.reward(-0.5, Wood(3)) == 5.5


def test_functions_see_the_scope_and_nothing_else():
    scope = {"jnp": __import__("numpy"), "BlockType": None}
    done = "def task_is_done(n):\n    return jnp.abs(n - 5) <= 1\n"
    [task] = compile_module(module(("A", 1, 0), task_is_done=done), scope, FACTS.feature_names)
    assert task.is_done(4) and not task.is_done(3)
    assert "open" not in task.is_done.__globals__["__builtins__"]
    assert "__import__" not in task.is_done.__globals__["__builtins__"]
    assert set(task.is_done.__globals__) == {"__builtins__", "jnp", "BlockType", "task_0_is_done"}


@pytest.mark.parametrize(
    "line",
    ["import os", "return __import__('os')", "return n.__class__", "return open('/etc/passwd')", "return jnp.load(n)"],
)
def test_a_module_that_was_tampered_with_is_refused_at_compilation(line):
    text = module(("A", 1, 0)).replace("    return inventory.wood >= n", f"    {line}\n    return n", 1)
    with pytest.raises(CodeRefused, match="task_0_is_done, line 2"):
        compile_module(text, {"jnp": None}, FACTS.feature_names)


@pytest.mark.parametrize(
    "tamper",
    [
        lambda text: "",
        lambda text: "print('hello')",
        lambda text: text.replace("# Global expert index: 10", "# Global expert index: ten"),
        lambda text: text.replace("LOCAL_TO_GLOBAL = ", "LOCAL_TO_GLOBAL = print or "),
        lambda text: text.replace("{0: 0, 5: 1, 10: 2}", "{'a': 0}"),
        lambda text: text.replace("task_0_reward", "task_9_reward"),
        lambda text: text.replace("# Task 0: A, n = 1", "# Task 0: A, n = one"),
        lambda text: text + "\nimport os\n",
        lambda text: text[: len(text) // 2],
        lambda text: text.replace("def task_0_reward(inventory_diff):", "class task_0_reward:"),
    ],
)
def test_a_text_that_is_no_generated_module_is_refused_with_the_remedy(tamper):
    with pytest.raises(BadInput, match="not a generated training module.*prepare the run again"):
        read_module(tamper(module(("A", 1, 0))))


def test_a_string_in_a_function_cannot_pose_as_a_heading():
    sly = 'def task_is_done(n):\n    """\n# Task 1: Sly, n = 1, local expert 7\n"""\n    return n > 2\n'
    found = read_module(module(("A", 1, 0), task_is_done=sly))
    assert [(task.skill_name, task.local_expert_idx) for task in found.tasks] == [("A", 0)]


@pytest.mark.parametrize("source", ["", "x = 1", "def task_reward(n):\n    return n\n", "def task_is_done(n:"])
def test_a_source_that_is_not_the_function_is_refused_when_the_module_is_written(source):
    with pytest.raises(CodeRefused, match="task_is_done"):
        module(("A", 1, 0), task_is_done=source)
