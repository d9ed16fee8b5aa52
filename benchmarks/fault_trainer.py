"""``python benchmarks/fault_trainer.py RUN_FOLDER``: the real training, of the tiny game, with frequent checkpoints."""

from __future__ import annotations

import dataclasses
import sys

import fault_game

from flowrl.training import __main__ as training

CHECKPOINT_S = 0.3
TEST_EPISODES = 64


def main(arguments: list[str]) -> int:
    fault_game.register()
    train = training.TRAINING.train

    def train_with_frequent_checkpoints(*args):
        from flowrl.training.run import measuring, saving

        saving.CHECKPOINT_S, measuring.TEST_EPISODES = CHECKPOINT_S, TEST_EPISODES
        return train(*args)

    training.TRAINING = dataclasses.replace(training.TRAINING, train=train_with_frequent_checkpoints)
    return training.main(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
