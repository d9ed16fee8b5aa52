"""One training of actors and a learner, from its settings to its last evaluation."""

from __future__ import annotations

from flowrl.host.learning import session
from flowrl.host.learning.actors.learner import ActorLearner
from flowrl.host.learning.actors.settings import ActorLearnerSettings
from flowrl.host.learning.evaluation import Evaluation


def train(settings: ActorLearnerSettings) -> Evaluation:
    """Trains to the end of the settings, or goes on where an earlier start ended, and evaluates.

    Raises:
        BadInput: settings that do not fit the environment or the folder's checkpoint.
        FolderInUse: another process trains in this folder.
        NoRoom: the disk is full, or the memory.
        HostError: an environment failed, or an actor was lost several times in a row.
        KeyboardInterrupt, Terminated: what was learned is saved.
    """
    with session.surroundings(settings) as around:
        env = around.evaluation_env
        learner = ActorLearner(settings, env.single_observation_space, env.single_action_space, around.display.say)
        with learner:
            return session.Training(settings, around, learner, learner.train_on_trajectories).run()
