"""Two threads never parse at once: CPython gives one of them a SystemError now and then."""

import ast
import threading
import time

from flowrl.skills.checks import parse_function
from flowrl.skills.module import TaskSource, read_module, render_module

DONE = "def task_is_done(inventory, n):\n    return inventory.wood >= n"
REWARD = "def task_reward(inventory_diff):\n    return 1.0 * inventory_diff.wood"
MODULE = render_module("Collect_Wood", 0, {0: 0}, [TaskSource("Collect_Wood", 1, 0, DONE, REWARD)])


def test_code_is_parsed_by_one_thread_at_a_time(monkeypatch):
    inside, most = [], []
    really_parse = ast.parse

    def parse(source):
        inside.append(source)
        most.append(len(inside))
        time.sleep(0.01)
        tree = really_parse(source)
        inside.pop()
        return tree

    monkeypatch.setattr(ast, "parse", parse)
    calls = [lambda: parse_function(DONE, "task_is_done"), lambda: read_module(MODULE)] * 3
    threads = [threading.Thread(target=call, daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) >= len(calls) and max(most) == 1
