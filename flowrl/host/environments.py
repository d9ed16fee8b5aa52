"""Makes environments from a name: a Gymnasium id, or ``module:callable``. Worker processes import this module."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
from gymnasium import error as gymnasium_error

from flowrl.errors import BadInput, FlowrlError
from flowrl.host.faults import raised
from flowrl.suggestions import suggestion

ATARI = "ALE/"
"""The beginning of the ids of Atari games."""
_FRAMES_SEEN = 4


class MakeEnvironment(NamedTuple):
    """A function without arguments that makes the environment of this name, and can be sent to a worker."""

    name: str

    def __call__(self) -> Any:
        return _made_by(self.name)()


def check_environment(name: str) -> None:
    """Makes the environment once, and closes it.

    Raises:
        BadInput: one line: there is no environment of this name, with the closest ones; or it needs a package that is not
            installed, with the line that installs it.
        EnvironmentFault: its function raised an exception.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="gymnasium")  # what is wrong is said below, in one line
            MakeEnvironment(name)().close()
    except gymnasium_error.DependencyNotInstalled as error:
        raise BadInput(f"--env {name} needs a package that is not installed: {_install(name, error)}") from None
    except gymnasium_error.UnregisteredEnv as error:
        raise BadInput(f"--env {name}: {_first_sentence(error)}; {_closest(name)}") from None
    except gymnasium_error.Error as error:
        raise BadInput(f"--env {name}: {_one_line(error)}") from None
    except FlowrlError:
        raise
    except Exception as error:
        raise raised(0, "its function", error) from error


def _made_by(name: str) -> Callable[[], Any]:
    module, _, attribute = name.partition(":")
    if not attribute:
        return lambda: _from_gymnasium(name)
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise BadInput(f"--env {name}: {error}; start from the folder that holds the module, or install it") from None
    if hasattr(found, attribute):
        return getattr(found, attribute)
    if attribute in gymnasium.registry:  # the module has registered it, as in Gymnasium's own "module:id"
        return lambda: gymnasium.make(attribute)
    names = [known for known, value in vars(found).items() if callable(value) and not known.startswith("_")]
    raise BadInput(f"--env {name}: {module} has no {attribute}; {suggestion(attribute, names)}")


def _from_gymnasium(name: str) -> Any:
    if name.startswith(ATARI):
        return _atari(name)
    return gymnasium.make(name)


def _atari(name: str) -> Any:
    """An Atari game as agents usually see it: 84 x 84 grey pixels, the last four frames, every fourth frame (Machado et al.
    2018, https://arxiv.org/abs/1709.06009; with sticky actions, and the whole game as an episode)."""
    for package in ("ale_py", "cv2"):
        if importlib.util.find_spec(package) is None:
            raise gymnasium_error.DependencyNotInstalled(f"{package} is not installed")
    import ale_py
    import cv2
    from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation

    cv2.setNumThreads(1)  # its threads would fight with the other workers for cores
    gymnasium.register_envs(ale_py)
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)  # its greeting would be printed by every worker
    return FrameStackObservation(AtariPreprocessing(gymnasium.make(name, frameskip=1)), _FRAMES_SEEN)


def _install(name: str, error: Exception) -> str:
    extra = "atari" if name.startswith(ATARI) else "box2d" if "box2d" in _entry_point(name) else None
    return f"pip install -e '.[{extra}]'" if extra else _one_line(error)


def _is_atari(name: str) -> bool:
    return _entry_point(name).startswith("ale_py")


def _entry_point(name: str) -> str:
    spec = gymnasium.registry.get(name)
    return str(spec.entry_point).lower() if spec else ""


def _closest(name: str) -> str:
    if importlib.util.find_spec("ale_py") is not None:
        import ale_py

        gymnasium.register_envs(ale_py)
    # Older ids of Atari games, such as Pong-v4, are made without the usual preprocessing.
    return suggestion(name, sorted(known for known in gymnasium.registry if known.startswith(ATARI) or not _is_atari(known)))


def _first_sentence(error: Exception) -> str:
    """Without the suggestions of Gymnasium, which finds fewer names than `_closest`."""
    return _one_line(error).partition(". ")[0]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")
