"""``python -m flowrl.migrate SRC GRAPH_PATH``: a sequential run becomes a library (see :mod:`flowrl.experiment.migration`)."""

import sys

from flowrl.experiment.migration import main

if __name__ == "__main__":
    sys.exit(main())
