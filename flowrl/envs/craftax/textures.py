"""The pictures that both Craftax games draw with, kept in flowrl's cache folder.

The games scale their pictures once, which takes a minute or two, and keep the result beside their own code. They write that
file in place: a process that is killed meanwhile leaves half a file, which no later process can load. And that folder may be
read-only. So the games get another place to write to, and only a whole file is kept.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import tempfile
from pathlib import Path
from types import ModuleType

from flowrl.files import write_whole


def load_textures(constants: ModuleType, folder: Path) -> None:
    """Loads a game's pictures, so that its own ``load_all_textures`` returns them in this process.

    Args:
        constants: the game's module of constants.
        folder: where the scaled pictures are kept. They are scaled anew each time if it cannot be written.
    """
    kept = path_of(constants, folder)
    if kept.exists():
        constants.TEXTURE_CACHE_FILE = str(kept)
        constants.load_all_textures()
        return
    with tempfile.TemporaryDirectory() as scratch:
        scaled = Path(scratch) / kept.name
        constants.TEXTURE_CACHE_FILE = str(scaled)
        constants.load_all_textures()
        if scaled.exists():  # not if this process had them in memory
            _keep(scaled, kept)


def path_of(constants: ModuleType, folder: Path) -> Path:
    """The file with a game's scaled pictures; each version of the game has its own."""
    _, game, _ = constants.__name__.split(".")
    return folder / "textures" / f"{game}_{importlib.metadata.version('craftax')}.pbz2"


def _keep(scaled: Path, kept: Path) -> None:
    # In a read-only folder or on a full disk: this process has its pictures, and the next one scales them again.
    with contextlib.suppress(OSError):
        write_whole(kept, scaled.read_bytes())
