"""Good functions with pieces swapped, dropped and doubled: the gate judges whatever results, and never crashes."""

import ast
import copy

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from flowrl.envs.registry import game
from flowrl.skills.checks import CodeRefused, check_skill_code
from flowrl.skills.fingerprint import fingerprint
from flowrl.skills.module import TaskSource, compile_module, render_module, skill_functions
from tests.gate.corpus import BAD, CLASSIC, GOOD
from tests.gate.styles import STYLES

FACTS = game(CLASSIC).facts
SOURCES = [
    source
    for case in [*GOOD, *STYLES]
    if case.env_name == CLASSIC
    for source in (case.done, case.reward)
    if "```" not in source
]
DONORS = [source for case in BAD if case.name not in ("too_long", "too_deep") for source in (case.done, case.reward)]
REASONS = {case.reason for case in BAD}
TEXT = st.text(alphabet="()[]{}:,.=*+-/<>@#'\"\\ \n\t_abjnpx01９\0é", max_size=6)


def parts(source):
    """Every expression and statement in a source."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    return [node for node in ast.walk(tree) if isinstance(node, (ast.expr, ast.stmt)) and not isinstance(node, ast.FunctionDef)]


EXPRESSIONS = [node for source in SOURCES + DONORS for node in parts(source) if isinstance(node, ast.expr)]
STATEMENTS = [node for source in SOURCES + DONORS for node in parts(source) if isinstance(node, ast.stmt)]


class Swap(ast.NodeTransformer):
    """Replaces the expression or statement at one position."""

    def __init__(self, position, expression, statement):
        self.left, self.expression, self.statement = position, expression, statement

    def generic_visit(self, node):
        node = super().generic_visit(node)
        is_expression, is_statement = isinstance(node, ast.expr), isinstance(node, ast.stmt)
        if (is_expression or is_statement) and not isinstance(node, ast.FunctionDef):
            self.left -= 1
            if self.left == 0:
                return copy.deepcopy(self.expression if is_expression else self.statement)
        return node


@st.composite
def grafted(draw, donors=(EXPRESSIONS, STATEMENTS)):
    """A good function with a part taken from another."""
    tree = ast.parse(draw(st.sampled_from(SOURCES)))
    for _ in range(draw(st.integers(1, 3))):
        position = draw(st.integers(1, 40))
        tree = Swap(position, *(draw(st.sampled_from(kind)) for kind in donors)).visit(tree)
    try:
        return ast.unparse(ast.fix_missing_locations(tree))
    except ValueError:
        assume(False)  # such a tree cannot be unparsed


@st.composite
def scribbled(draw):
    """A good function with some characters replaced."""
    source = draw(st.sampled_from(SOURCES))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(source)))
        source = source[:place] + draw(TEXT) + source[place + draw(st.integers(0, 4)) :]
    return source


def with_code(source):
    name = "task_is_done" if "task_is_done" in source else "task_reward"
    return GOOD[0].spec.model_copy(update={name: source})


@pytest.mark.filterwarnings("ignore::SyntaxWarning")
@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(grafted(), scribbled()))
def test_the_static_checks_accept_or_refuse_in_one_line(source):
    spec = with_code(source)
    try:
        check_skill_code(spec, FACTS)
    except CodeRefused as refused:
        assert refused.reason == "not_allowed" and "\n" not in str(refused)
        return
    text = render_module(spec.name, 0, {0: 0}, [TaskSource(spec.name, 1, 0, spec.task_is_done, spec.task_reward)])
    compile_module(text, dict.fromkeys(("jax", "jnp", *FACTS.constants)), FACTS.feature_names)
    assert fingerprint(*skill_functions(text)) == fingerprint(spec.task_is_done, spec.task_reward)


@pytest.fixture(scope="module")
def judged(gates):
    return gates[CLASSIC].report


GOOD_PARTS = [node for source in SOURCES for node in parts(source)]
ALLOWED = tuple([node for node in GOOD_PARTS if isinstance(node, kind)] for kind in (ast.expr, ast.stmt))


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(grafted(ALLOWED))
def test_the_whole_gate_passes_or_names_a_reason_that_it_knows(judged, source):
    report = judged(with_code(source))
    assert report["passed"] or report["reason"] in REASONS, report
    assert report["passed"] == (report["reason"] is None)
