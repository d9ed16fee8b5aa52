"""The peer of the speed benchmark: rejax's PPO on Craftax, with optimistic resets.

rejax steps each environment by itself; its own Craftax wrapper generates a world for each at every step. Here it uses
the usual remedy of Craftax's users: one world is generated for 16 environments at every step, and those whose game is
over share them.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from gymnax.environments import spaces
from rejax import PPO

from flowrl.envs.registry import make_adapter
from flowrl.training.learning.ppo import Hyperparameters

RESET_RATIO = 16


class PlainCraftax:
    """The game with rejax's interface; everything comes from the game itself."""

    def __init__(self, env_name: str):
        adapter = make_adapter(env_name)
        self._env = adapter._env
        self.default_params = self._env.default_params
        self._size, self._num_actions = adapter.observation_size, adapter.num_actions

    def action_space(self, params) -> spaces.Discrete:
        return spaces.Discrete(self._num_actions)

    def observation_space(self, params) -> spaces.Box:
        return spaces.Box(0.0, 1.0, (self._size,), jnp.float32)

    def reset(self, key, params):
        return self._env.reset_env(key, params)

    def step(self, key, state, action, params):
        return self._env.step_env(key, state, action, params)


class OptimisticPPO(PPO):
    """rejax's PPO, whose environments are reset together."""

    @property
    def vmap_step(self):
        def step(keys, state, action, params):
            observation, state, reward, done, info = jax.vmap(self.env.step, in_axes=(0, 0, 0, None))(
                keys, state, action, params
            )
            reset_keys = jax.random.split(jax.random.fold_in(keys[0], 1), self.num_envs // RESET_RATIO)
            fresh_observation, fresh = jax.vmap(self.env.reset, in_axes=(0, None))(reset_keys, params)
            # The n-th environment that is over takes the n-th fresh world; if there are fewer worlds, they share.
            place = (jnp.cumsum(done) - 1) % (self.num_envs // RESET_RATIO)

            def choose(new, old):
                return jnp.where(done.reshape(-1, *[1] * (old.ndim - 1)), new[place], old)

            state = jax.tree.map(choose, fresh, state)
            return choose(fresh_observation, observation), state, reward, done, info

        return step


def make(env_name: str, num_envs: int, num_steps: int, layer_size: int):
    """The algorithm and its first state, with the settings of an ordinary run."""
    hyper = Hyperparameters()
    algorithm = OptimisticPPO.create(
        env=PlainCraftax(env_name),
        agent_kwargs={"hidden_layer_sizes": (layer_size, layer_size), "activation": "tanh"},
        num_envs=num_envs,
        num_steps=num_steps,
        num_epochs=hyper.update_epochs,
        num_minibatches=hyper.num_minibatches,
        learning_rate=2e-4,
        max_grad_norm=hyper.max_grad_norm,
        gamma=hyper.gamma,
        gae_lambda=hyper.gae_lambda,
        clip_eps=hyper.clip_eps,
        ent_coef=hyper.ent_coef,
        vf_coef=hyper.vf_coef,
        skip_initial_evaluation=True,
    )
    return algorithm, jax.jit(algorithm.init_state)(jax.random.key(0))
