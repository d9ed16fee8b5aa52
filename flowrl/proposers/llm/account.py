"""What has been spent, what may still be spent, and an estimate for the whole experiment."""

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
"""For each additional reward."""
USUAL_CALLS = 1.5
"""Per skill: about every second proposal needs one repair."""
USUAL_LINE_TOKENS = 40
"""For one skill in the list of the library."""


class Account:
    """The spending of one experiment.

    Raises:
        BadInput: the user's price list cannot be read.
    """

    def __init__(self, settings: LlmSettings):
        self.settings = settings
        self.price = find_price(settings.model, settings.base_url, settings.prices_file)

    def cost(self, usage: Usage) -> float | None:
        """USD for one call; None if the price is unknown."""
        return None if self.price is None else self.price.of(usage)

    def spent(self, calls: Iterable[Call]) -> float | None:
        """USD for several calls; None if the price of one of them is unknown."""
        costs = [call.cost_usd for call in calls]
        return None if None in costs else round(sum(costs), 6)

    def check_budget(self, opening: Sequence[Message], calls: Sequence[Call]) -> None:
        """Checks that the budget can be enforced and pays for at least one answer.

        Raises:
            BadInput: the model's price is unknown, or the budget is too small.
        """
        budget = self.settings.budget_usd
        if budget is not None and self.price is None:
            entry = f'{{"models": {{"{self.settings.model}": {{"prompt": 1.25, "completion": 10}}}}}}'
            raise BadInput(
                f"--llm_budget_usd {budget:g} cannot be enforced: the price of {self.settings.model} is unknown; add it to "
                f"{self.settings.prices_file}, for example {entry}, or leave the budget out"
            )
        try:
            self.affordable(opening, LEAST_TOKENS, calls)
        except BudgetSpent as error:
            raise BadInput(f"{error}, or use --proposer curriculum") from None

    def affordable(self, messages: Sequence[Message], wanted: int, calls: Sequence[Call]) -> int:
        """How many of the wanted answer tokens the budget pays for.

        Raises:
            BudgetSpent: the rest of the budget does not pay for an answer; names the flag to raise.
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
                f"{usd(spent)} of the budget of {usd(budget)} is spent, and the next answer could cost more than is left; "
                "raise --llm_budget_usd"
            )
        return tokens

    def estimate(self, opening: Sequence[Message]) -> str:
        """A line that estimates the cost of one skill and of the whole experiment."""
        skills = self.settings.max_skills
        question = estimated_tokens(sum(len(message["content"]) for message in opening)) + USUAL_LINE_TOKENS * skills // 2
        answer = USUAL_ANSWER_TOKENS + USUAL_REWARD_TOKENS * (self.settings.candidates - 1)
        usage = Usage(round(USUAL_CALLS * question), round(USUAL_CALLS * answer))
        tokens = f"about {(usage.prompt + usage.completion) / 1000:.0f}k tokens per skill"
        if self.price is None:
            return f"{tokens}; the price of {self.settings.model} is unknown; add it to {self.settings.prices_file}"
        if self.price == FREE:
            return f"{tokens}, free: the server is local"
        cost, budget = self.price.of(usage), self.settings.budget_usd
        limit = "no budget is set" if budget is None else f"at most {usd(budget)}"
        return f"{tokens}, {usd(cost)} per skill, {usd(cost * skills)} for {skills} skills ({limit})"
