"""``flowrl.evaluation.compare_versions`` as it is, on the game of the tests."""

import sys

from flowrl.envs import registry
from flowrl.evaluation import compare_versions
from tests.evaluation.camp import Camp

registry.make_adapter = Camp

if __name__ == "__main__":
    sys.exit(compare_versions.main(sys.argv[1:]))
