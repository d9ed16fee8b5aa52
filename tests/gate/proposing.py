"""A proposer of one skill, for tests of what the gate says about it."""

from flowrl.errors import BadInput
from flowrl.skills.candidates import Offer


class OneSkill:
    """Proposes one skill, and records the refusals in ``heard``."""

    state = {"kind": "one", "cost_usd": 0.0, "last_error": None}

    def __init__(self, spec):
        self.spec, self.heard = spec, []

    def propose(self, library, examine):
        if self.heard or library.knows(self.spec.name):
            return None
        try:
            return examine(Offer.of(self.spec))
        except BadInput as error:
            self.heard.append(error)
            return None
