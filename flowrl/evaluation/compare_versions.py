"""``python -m flowrl.evaluation.compare_versions FOLDER``: measures what a merge asks in ``FOLDER/request.json``.

The merge keeps the standard input of this process open. The process ends when its input does, even in the middle of a
compilation, so it never outlives the scheduler.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
from pathlib import Path

from flowrl.errors import FlowrlError
from flowrl.records import version_comparison
from flowrl.records.version_comparison import Answer, MeasuringPaths
from flowrl.training.host import heap, process


def main(arguments: list[str]) -> int:
    """Returns the exit code. The last line printed says why it is not 0."""
    threading.Thread(target=_end_with_input, daemon=True).start()
    try:
        measure(MeasuringPaths(Path(arguments[0])))
    except FlowrlError as error:
        print(error, flush=True)
        return error.exit_code
    except Exception as error:
        traceback.print_exc()
        if process.is_out_of_memory(error):
            print("memory ran out", flush=True)
        return 1
    return 0


def measure(paths: MeasuringPaths) -> None:
    """Plays what the request asks for, and writes the answer."""
    request = version_comparison.read_request(paths.request)
    process.take_slot(request.slot)
    heap.settle()
    # JAX is imported from here on, in the surroundings that were just prepared.
    from flowrl import pickles
    from flowrl.envs.registry import make_adapter
    from flowrl.evaluation import library
    from flowrl.evaluation.versions import compare

    adapter = make_adapter(request.env_name)
    found = library.load(paths.library, adapter.facts)
    versions = {pair: pickles.load(paths.version(pair.global_expert_idx))["params"] for pair in request.pairs}
    comparisons = compare(found, adapter, versions, request.episodes, request.worlds)
    version_comparison.write(paths.answer, Answer(tuple(comparisons)))


def _end_with_input() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)  # nobody waits for the answer any more, so nothing is lost


if __name__ == "__main__":
    heap.begin_with_large_pages()
    process.leave(main(sys.argv[1:]))
