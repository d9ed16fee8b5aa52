"""What was paid, what may still be paid, and about what the whole will cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from flowrl.errors import BadInput
from flowrl.proposers.llm.calls import Call
from flowrl.proposers.llm.endpoint import LEAST_TOKENS, Usage, estimated_tokens
from flowrl.proposers.llm.errors import BudgetSpent
from flowrl.proposers.llm.prices import FREE, find_price, usd
from flowrl.proposers.llm.prompts import Message
from flowrl.proposers.llm.settings import LlmSettings

USUAL_ANSWER_TOKENS = 1500
USUAL_REWARD_TOKENS = 400
"""Of each further reward that is asked for."""
USUAL_CALLS = 1.5
"""For one skill: every second one has to be mended once."""
USUAL_LINE_TOKENS = 40
"""Of a skill in the list of the library."""


class Account:
    """The money of one experiment.

    Raises:
        BadInput: the user's price list cannot be read.
    """

    def __init__(self, settings: LlmSettings):
        self.settings = settings
        self.price = find_price(settings.model, settings.base_url, settings.prices_file)

    def cost(self, usage: Usage) -> float | None:
        """USD for one call; None where the price is not known."""
        return None if self.price is None else self.price.of(usage)

    def spent(self, calls: Iterable[Call]) -> float | None:
        """USD for some calls; None where one of them has no known price."""
        costs = [call.cost_usd for call in calls]
        return None if None in costs else round(sum(costs), 6)

    def check_budget(self, opening: Sequence[Message], calls: Sequence[Call]) -> None:
        """Accepts a budget that can be kept, and that pays for an answer.

        Raises:
            BadInput: the model's price is not known, or the budget is too small.
        """
        budget = self.settings.budget_usd
        if budget is not None and self.price is None:
            entry = f'{{"models": {{"{self.settings.model}": {{"prompt": 1.25, "completion": 10}}}}}}'
            raise BadInput(
                f"--llm_budget_usd {budget:g} cannot be kept: the price of {self.settings.model} is not known; write it into "
                f"{self.settings.prices_file}, as {entry}, or leave the budget out"
            )
        try:
            self.affordable(opening, LEAST_TOKENS, calls)
        except BudgetSpent as error:
            raise BadInput(f"{error}; raise --llm_budget_usd, or use --proposer curriculum") from None

    def affordable(self, messages: Sequence[Message], wanted: int, calls: Sequence[Call]) -> int:
        """How many of the wanted tokens the budget pays for, should the answer have as many.

        Raises:
            BudgetSpent: too few for an answer.
        """
        budget = self.settings.budget_usd
        if budget is None or self.price is None or self.price == FREE:
            return wanted
        spent = sum(call.cost_usd or 0.0 for call in calls)
        asked = Usage(prompt=sum(len(message["content"]) for message in messages) // 3, completion=0)
        left = budget - spent - self.price.of(asked)
        tokens = min(wanted, int(left / self.price.completion * 1_000_000)) if self.price.completion else wanted
        if tokens < min(wanted, LEAST_TOKENS) or left <= 0:
            raise BudgetSpent(
                f"{usd(spent)} of the budget of {usd(budget)} is spent, and another answer could cost more than the rest"
            )
        return tokens

    def estimate(self, opening: Sequence[Message]) -> str:
        """About what a skill, and the whole experiment, will cost, for a person."""
        skills = self.settings.max_skills
        question = estimated_tokens(sum(len(message["content"]) for message in opening)) + USUAL_LINE_TOKENS * skills // 2
        answer = USUAL_ANSWER_TOKENS + USUAL_REWARD_TOKENS * (self.settings.candidates - 1)
        usage = Usage(round(USUAL_CALLS * question), round(USUAL_CALLS * answer))
        tokens = f"about {(usage.prompt + usage.completion) / 1000:.0f}k tokens a skill"
        if self.price is None:
            return f"{tokens}; the price of {self.settings.model} is not known (see {self.settings.prices_file})"
        if self.price == FREE:
            return f"{tokens}, and nothing to pay: the server is a local one"
        cost, budget = self.price.of(usage), self.settings.budget_usd
        limit = "no budget is set" if budget is None else f"at most {usd(budget)}"
        return f"{tokens}, {usd(cost)} a skill, {usd(cost * skills)} for {skills} skills ({limit})"
