"""Whether there is a key for Weights & Biases, found out without importing wandb (which takes a second)."""

from __future__ import annotations

import netrc
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from flowrl.errors import BadInput

_CLOUD = "https://api.wandb.ai"
_WITHOUT_KEY = ("offline", "dryrun", "disabled")


def check_wandb_key(environ: Mapping[str, str]) -> None:
    """Accepts an environment in which wandb finds a key, or needs none, and so does not stop in a pane to ask for one.

    Raises:
        BadInput: there is no key, and reports are not kept offline.
    """
    if environ.get("WANDB_MODE") in _WITHOUT_KEY:
        return
    if environ.get("WANDB_API_KEY") or environ.get("WANDB_IDENTITY_TOKEN_FILE") or _netrc_has_wandb(environ):
        return
    raise BadInput(
        "--use_wandb needs a key: run `wandb login`, set WANDB_API_KEY, set WANDB_MODE=offline to keep the reports "
        "on this machine, or use --no-use_wandb"
    )


def _netrc_has_wandb(environ: Mapping[str, str]) -> bool:
    home = environ.get("HOME") or os.path.expanduser("~")  # unchanged for a user without a home folder
    path = Path(environ["NETRC"]).expanduser() if environ.get("NETRC") else Path(home) / ".netrc"
    try:
        logins = netrc.netrc(path)
    except (OSError, netrc.NetrcParseError):
        return False
    return logins.authenticators(urlsplit(environ.get("WANDB_BASE_URL", _CLOUD)).netloc) is not None
