"""What the tests of this folder share."""

import pytest

from tests.host.ways import WAYS


@pytest.fixture(params=WAYS)
def make(request):
    """Makes batches, in every way of stepping them; closes them in the end."""
    made = []

    def make(env_fns, **options):
        made.append(WAYS[request.param](env_fns, **options))
        return made[-1]

    yield make
    for env in made:
        env.close()
