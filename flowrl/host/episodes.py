"""One environment, stepped from episode to episode. Every way of stepping a batch uses this class, so all of them agree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from flowrl.host.block import Block
from flowrl.host.faults import EnvironmentFault, raised
from flowrl.host.spaces import WrongValue

Info = dict[str, Any]
MASK = "action_mask"
"""The entry of ``info`` that holds an action mask, as in Gymnasium's own games."""


class Episodes:
    """Environment ``number``, which reads its actions from row ``number`` of a block and writes results there.

    Autoreset in the same step: a step that ends an episode begins the next one. The row of observations then holds the new
    episode's first one, and the row of `Block.final_obs` the old one's last.
    """

    def __init__(self, number: int, env: Any, block: Block):
        self.number = number
        self._env = env
        self._block = block
        self._observations = block.observation_rows()
        self._final = block.final_rows()
        self._masked = False
        self._mask_method = _mask_method(env)
        self._has_masks = block.action_masks.shape[1] > 0
        block.action_masks[number] = True
        self._copies_action = block.actions.ndim > 1
        self._return, self._length = 0.0, 0

    def reset(self, seed: int | None = None, options: Info | None = None) -> Info:
        """Begins a new episode, and returns what the environment says about it.

        Raises:
            EnvironmentFault: the environment raised an exception, or returned the wrong thing.
        """
        row = self.number
        self._block.rewards[row] = 0.0
        self._block.terminated[row] = self._block.truncated[row] = False
        self._block.episode_returns[row] = self._block.episode_lengths[row] = 0
        return self._begin(seed, options)

    def step(self) -> Info:
        """Takes the row's action, and returns what the environment says: of the new episode if one has begun, in which case
        the entry ``final_info`` is about the old one's last step.

        Raises:
            EnvironmentFault: the environment raised an exception, or returned the wrong thing.
        """
        block, row = self._block, self.number
        action = block.actions[row]
        try:
            answer = self._env.step(action.copy() if self._copies_action else action)
        except Exception as error:
            raise raised(row, "step", error) from error
        observation, reward, terminated, truncated, info = self._checked(answer)
        self._return += reward
        self._length += 1
        block.rewards[row] = reward
        block.terminated[row] = terminated
        block.truncated[row] = truncated
        block.episode_returns[row] = self._return
        block.episode_lengths[row] = self._length
        if terminated or truncated:
            self._write(self._final, observation, "step")
            return {**self._begin(None, None), "final_info": info}
        self._write(self._observations, observation, "step")
        if self._has_masks:
            self._write_mask(info)
        return info

    def _begin(self, seed: int | None, options: Info | None) -> Info:
        try:
            answer = self._env.reset(seed=seed, options=options)
        except Exception as error:
            raise raised(self.number, "reset", error) from error
        if not (isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[1], dict)):
            raise self._wrong("reset", f"(observation, info) was expected, found {_kind(answer)}")
        observation, info = answer
        self._write(self._observations, observation, "reset")
        self._return, self._length = 0.0, 0
        if self._has_masks:
            self._write_mask(info)
        return info

    def _checked(self, answer: Any) -> tuple[Any, float, bool, bool, Info]:
        if not (isinstance(answer, tuple) and len(answer) == 5 and isinstance(answer[4], dict)):
            expected = "(observation, reward, terminated, truncated, info) was expected"
            raise self._wrong("step", f"{expected}, found {_kind(answer)}")
        observation, reward, terminated, truncated, info = answer
        if not (isinstance(terminated, (bool, np.bool_)) and isinstance(truncated, (bool, np.bool_))):
            raise self._wrong("step", f"terminated and truncated must be true or false, found {terminated!r} and {truncated!r}")
        try:
            return observation, float(reward), bool(terminated), bool(truncated), info
        except (TypeError, ValueError):
            raise self._wrong("step", f"the reward must be a number, found {_kind(reward)}") from None

    def _write(self, rows, observation: Any, call: str) -> None:
        try:
            rows.write(self.number, observation)
        except WrongValue as error:
            raise self._wrong(call, f"observation: {error}") from None

    def _write_mask(self, info: Info) -> None:
        masks = self._block.action_masks
        if MASK in info:
            mask = info[MASK]
        elif self._mask_method is not None:
            try:
                mask = self._mask_method()
            except Exception as error:
                raise raised(self.number, "action_masks", error) from error
        else:
            if self._masked:
                masks[self.number] = True
            self._masked = False
            return
        masks[self.number] = self._flat_mask(mask, masks.shape[1])
        self._masked = True

    def _flat_mask(self, mask: Any, size: int) -> np.ndarray:
        parts = mask if isinstance(mask, (tuple, list)) else [mask]
        try:
            found = np.concatenate([np.asarray(part, bool).ravel() for part in parts])
        except (TypeError, ValueError):
            found = np.zeros(0, bool)
        if found.size != size:
            raise self._wrong("its action mask", f"{size} entries were expected, found {found.size or _kind(mask)}")
        return found

    def _wrong(self, call: str, problem: str) -> EnvironmentFault:
        return EnvironmentFault(
            f"environment {self.number} returned the wrong thing from {call}: {problem}; correct the environment, or wrap it "
            "(gymnasium.utils.env_checker.check_env shows more)",
            self.number,
        )


def build(number: int, env_fn: Callable[[], Any]) -> Any:
    """Makes environment ``number``.

    Raises:
        EnvironmentFault: its function raised an exception, or returned something else.
    """
    try:
        env = env_fn()
    except Exception as error:
        raise raised(number, "its function", error) from error
    needed = ("reset", "step", "close", "observation_space", "action_space")
    if missing := [name for name in needed if not hasattr(env, name)]:
        raise EnvironmentFault(
            f"the function of environment {number} returned {_kind(env)}, which has no {missing[0]}; it must return a "
            "gymnasium.Env",
            number,
        )
    return env


def close_quietly(env: Any) -> None:
    """Closes an environment while another error is on its way."""
    try:
        env.close()
    except Exception:  # the first error is the one to show
        return


def _mask_method(env: Any) -> Callable[[], Any] | None:
    # Wrappers hand out what they wrap by get_wrapper_attr alone.
    if hasattr(env, "has_wrapper_attr") and env.has_wrapper_attr("action_masks"):
        return env.get_wrapper_attr("action_masks")
    return getattr(env, "action_masks", None)


def _kind(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)} ({', '.join(type(part).__name__ for part in value[:6])})"
    return type(value).__name__
