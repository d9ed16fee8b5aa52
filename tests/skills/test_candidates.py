"""A proposed skill with its numbered rewards."""

from __future__ import annotations

import pytest

from flowrl.errors import BadInput
from flowrl.skills.candidates import NoRewardLeft, Offer
from tests.experiment.fakes import WOOD


def reward(number: int) -> str:
    return f"def task_reward(inventory_diff):\n    return {number}.0 * inventory_diff.wood"


def offer_of(*numbers: int, dropped=None) -> Offer:
    rewards = {number: WOOD.model_copy(update={"task_reward": reward(number)}) for number in numbers}
    return Offer(rewards, dropped)


def refusing(*numbers: int):
    def judge(spec):
        for number in numbers:
            if spec.task_reward == reward(number):
                raise BadInput(f"not {number}")
        return spec.task_reward

    return judge


def test_a_reward_keeps_its_number_when_others_are_dropped():
    offer = offer_of(2, 3, 5, dropped={1: BadInput("no term"), 4: BadInput("no code")})
    assert offer.keep(refusing(3)) == [reward(2), reward(5)]
    assert list(offer.rewards) == [2, 5] and sorted(offer.dropped) == [1, 3, 4]
    assert (offer.spec.task_reward, offer.spec.candidates) == (reward(2), (reward(5),))


def test_a_skill_without_usable_rewards_is_refused_with_the_reason_of_each():
    offer = offer_of(2, 3, dropped={1: BadInput("no term")})
    each = "reward 1: no term; reward 2: not 2; reward 3: not 3"
    with pytest.raises(NoRewardLeft, match=f"none of the 3 rewards of skill Collect_Wood can be trained: {each}"):
        offer.keep(refusing(2, 3))


def test_a_fault_shared_by_all_rewards_is_reported_once():
    with pytest.raises(BadInput, match="^not this skill$"):
        offer_of(1, 2).keep(lambda spec: (_ for _ in ()).throw(BadInput("not this skill")))


def test_of_rewards_with_the_same_code_the_first_stays():
    offer = offer_of(1, 2)
    offer.rewards[3] = offer.rewards[1]
    offer.drop_duplicates()
    assert list(offer.rewards) == [1, 2] and "the same code" in str(offer.dropped[3])


def test_the_rewards_of_a_skill_are_numbered_from_one():
    offer = Offer.of(WOOD.model_copy(update={"candidates": (reward(7),)}))
    assert list(offer.rewards) == [1, 2] and offer.is_several and offer.rewards[2].task_reward == reward(7)
    assert not Offer.of(WOOD).is_several
