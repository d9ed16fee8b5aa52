"""One warm probe a game for the whole session: what is recorded, is recorded once on a machine."""

import pytest

from flowrl.gate import Gate
from tests.gate.corpus import CLASSIC, CRAFTAX


@pytest.fixture(scope="session")
def gates():
    with Gate(CLASSIC) as classic, Gate(CRAFTAX) as craftax:
        yield {CLASSIC: classic, CRAFTAX: craftax}
