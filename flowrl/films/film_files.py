"""Writes a film: MP4 where an encoder is installed, else animated WebP, or GIF."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from flowrl.errors import BadInput
from flowrl.paths import FILM_SUFFIXES, unfinished_film

_LOSSLESS_FRAMES = 200
"""A WebP of more frames loses a little sharpness, and takes a third of the room: nights are noise."""


def usual_suffix() -> str:
    """``.mp4`` if imageio-ffmpeg is installed, which brings an encoder; else ``.webp``, which needs none."""
    return ".mp4" if importlib.util.find_spec("imageio_ffmpeg") else ".webp"


def check_suffix(path: Path) -> None:
    """
    Raises:
        BadInput: no film can have such a name here.
    """
    if path.suffix not in FILM_SUFFIXES:
        raise BadInput(f"--out {path}: a film's name ends in {', '.join(FILM_SUFFIXES[:-1])} or {FILM_SUFFIXES[-1]}")
    if path.suffix == ".mp4" and usual_suffix() != ".mp4":
        raise BadInput(f"--out {path}: an MP4 needs an encoder: pip install -e '.[films]'; or choose .webp or .gif")


def write(path: Path, frames: Sequence[np.ndarray], fps: int) -> None:
    """Writes the film, whole.

    Args:
        frames: uint8 ``[height, width, 3]`` each, of one size, both even.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_it = _write_mp4 if path.suffix == ".mp4" else _write_pictures
    with _in_one_step(path) as unfinished:
        write_it(unfinished, frames, fps)


@contextlib.contextmanager
def _in_one_step(path: Path) -> Iterator[Path]:
    """A file to write the film to; it becomes ``path`` at the end of the block, and only if nothing failed. Its name tells
    whoever ends this process what to delete."""
    unfinished = unfinished_film(path, os.getpid())
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _write_pictures(path: Path, frames: Sequence[np.ndarray], fps: int) -> None:
    pictures = [Image.fromarray(frame) for frame in frames]
    is_short = len(frames) <= _LOSSLESS_FRAMES
    how = {"lossless": is_short, "quality": 80, "method": 3} if path.suffix == ".webp" else {"optimize": True}
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=round(1000 / fps), loop=0, **how)


def _write_mp4(path: Path, frames: Sequence[np.ndarray], fps: int) -> None:
    import imageio_ffmpeg

    height, width = frames[0].shape[:2]
    # yuv420p plays everywhere; an even size is all that it asks for.
    writer = imageio_ffmpeg.write_frames(
        str(path), (width, height), fps=fps, codec="libx264", macro_block_size=2, output_params=["-crf", "20"]
    )
    with warnings.catch_warnings():
        # JAX warns of the fork that starts ffmpeg. The child replaces itself by ffmpeg at once.
        warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
        writer.send(None)
    for frame in frames:
        writer.send(np.ascontiguousarray(frame))
    writer.close()
