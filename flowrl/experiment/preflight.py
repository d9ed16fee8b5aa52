"""What must be there before anything is launched. These checks read, and never write.

Each check raises ``BadInput`` with one line that names what is missing and the remedy.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from flowrl.config import MOST_USEFUL, Settings, check_frames
from flowrl.envs.registry import game
from flowrl.errors import BadInput
from flowrl.files import read_json
from flowrl.parallel.launchers.base import Launcher
from flowrl.paths import ExperimentPaths, check_cache_folder, why_not_writable
from flowrl.proposers.curriculum import load_curriculum
from flowrl.proposers.llm.credentials import usable_key
from flowrl.proposers.llm.settings import OPENAI, LlmSettings, check_address
from flowrl.records.training_settings import AUTO_INIT, NO_INIT
from flowrl.skills.explore import EXPLORE
from flowrl.skills.spec import check_name
from flowrl.suggestions import suggestion
from flowrl.tracking.tensorboard import check_tensorboard
from flowrl.tracking.wandb_key import check_wandb_key

DEFAULT_LLM = "gpt-5"


def check_machine(settings: Settings, launcher: Launcher, environ: Mapping[str, str] = os.environ) -> None:
    """Runs all of the checks below, and the launcher's own.

    Raises:
        BadInput: the first thing that is missing.
    """
    check_folder(settings.graph_path)
    check_cache_folder()
    launcher.check()
    check_llm(settings, environ)
    if settings.use_wandb:
        check_wandb_key(environ)
    if settings.tensorboard:
        check_tensorboard()


def check_folder(folder: Path) -> None:
    """Accepts an experiment's folder that can be written, or created if it does not exist yet."""
    if why := why_not_writable(folder):
        raise BadInput(f"{why}; choose another --graph_path, or make this one writable")


def check_continuation(settings: Settings) -> None:
    """Accepts an experiment that has skills, one of which can then be trained further."""
    if not has_skills(ExperimentPaths(settings.graph_path)):
        raise BadInput(
            f"there is no skill {settings.continue_skill} in {settings.graph_path}, which holds no skills; "
            "give the --graph_path of the experiment that has it"
        )
    if settings.continue_skill == MOST_USEFUL:
        check_frames("--extra_timesteps", settings.extra_timesteps, settings)


def check_explore(settings: Settings) -> None:
    """Accepts a game that Explore can be trained in, if it is asked for."""
    facts = game(settings.env_name).facts
    if settings.explore_frames and not settings.continue_skill and not (facts.goals and facts.own_reward):
        raise BadInput(
            f"--explore_frames needs a game that declares goals and its own reward, and {settings.env_name} does not; "
            "leave it out"
        )


def check_rehearsal(settings: Settings) -> None:
    """Accepts a game that can be rehearsed."""
    facts = game(settings.env_name).facts
    if not (facts.goals and facts.own_reward):
        raise BadInput(
            f"a rehearsal needs a game that declares goals and its own reward, and {settings.env_name} does not; "
            "docs/add_a_game.md says how to declare them"
        )


def check_init_from(settings: Settings) -> None:
    """Accepts a skill that the experiment has or may get, if its expert is to be started from; a model may propose any."""
    name = settings.init_from
    if name in (AUTO_INIT, NO_INIT) or settings.continue_skill:
        return
    check_name(name)
    if chosen_proposer(settings) == "curriculum":
        entry = game(settings.env_name)
        known = {spec.name for spec in load_curriculum(entry.curriculum, entry.facts)}
        known |= skill_names(ExperimentPaths(settings.graph_path)) | ({EXPLORE} if settings.explore_frames else set())
        if name not in known:
            found = suggestion(name, [AUTO_INIT, NO_INIT, *sorted(known)])
            raise BadInput(f"--init_from {name} names no skill that the experiment has or can get; {found}")


def has_skills(paths: ExperimentPaths) -> bool:
    """Whether an earlier start left skills. Whether their files are good is for the scheduler to find out."""
    with contextlib.suppress(OSError, BadInput):
        state = read_json(paths.state)
        if isinstance(state, dict) and state.get("skills"):
            return True
    return bool(paths.library())


def skill_names(paths: ExperimentPaths) -> set[str]:
    """The skills of earlier starts, whatever their status."""
    names = set(paths.library().values())
    with contextlib.suppress(OSError, BadInput, TypeError, KeyError):
        names |= {skill["skill_name"] for skill in read_json(paths.state)["skills"]}
    return names


def chosen_proposer(settings: Settings, environ: Mapping[str, str] = os.environ) -> str:
    """``curriculum`` or ``llm``: what ``--proposer auto`` stands for."""
    if settings.proposer != "auto":
        return settings.proposer
    is_wanted = settings.llm_name or settings.llm_base_url or settings.llm_mode == "replay" or _has_llm_access(environ)
    return "llm" if is_wanted else "curriculum"


def chosen_llm(settings: Settings) -> str:
    """The language model's name."""
    return settings.llm_name or DEFAULT_LLM


def check_llm(settings: Settings, environ: Mapping[str, str] = os.environ) -> None:
    """Accepts a language model with a key, with the address of a server that may need none, or with a recording."""
    if chosen_proposer(settings, environ) == "curriculum":
        return
    found = llm_settings(settings, environ)
    check_address(found.base_url, found.address_from)
    if settings.llm_mode == "replay" or settings.llm_base_url or _has_llm_access(environ):
        return
    raise BadInput(
        f"the language model {chosen_llm(settings)} needs a key or an address: set OPENAI_API_KEY, give --llm_base_url, "
        "or use --proposer curriculum"
    )


def llm_settings(settings: Settings, environ: Mapping[str, str] = os.environ) -> LlmSettings:
    """The settings of the language model's proposer.

    Raises:
        BadInput: the key cannot be sent in a header. A replay needs no key.
    """
    address, address_from = _address(settings, environ)
    return LlmSettings(
        model=chosen_llm(settings),
        base_url=address.rstrip("/"),
        address_from=address_from,
        folder=ExperimentPaths(settings.graph_path).llm,
        key=None if settings.llm_mode == "replay" else usable_key(environ.get("OPENAI_API_KEY")),
        mode=settings.llm_mode,
        max_repairs=settings.max_repairs,
        budget_usd=settings.llm_budget_usd,
        timeout_s=settings.llm_timeout_s,
        candidates=settings.candidates,
        seed=settings.seed,
        max_skills=settings.max_nodes,
    )


def _address(settings: Settings, environ: Mapping[str, str]) -> tuple[str, str]:
    """The address of the model's server, and the flag or variable that sets it."""
    from_environment = environ.get("OPENAI_BASE_URL", "")
    if not settings.llm_base_url and from_environment.strip():
        return from_environment, "OPENAI_BASE_URL"
    return settings.llm_base_url or OPENAI, "--llm_base_url"


def _has_llm_access(environ: Mapping[str, str]) -> bool:
    return any(environ.get(name, "").strip() for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"))
