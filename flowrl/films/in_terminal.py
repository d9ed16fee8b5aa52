"""Pictures in a terminal: each character is two pixels, one above the other."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from PIL import Image
from rich.console import Console
from rich.live import Live
from rich.text import Text

_HALF = "▀"


def blocks(picture: np.ndarray, width: int, height: int) -> Text:
    """A picture as at most ``width`` columns and ``height`` lines of coloured half blocks.

    Args:
        picture: uint8 ``[height, width, 3]``.
    """
    rows, columns = picture.shape[:2]
    scale = min(width / columns, 2 * height / rows)
    size = (max(1, int(columns * scale)), max(2, int(rows * scale) // 2 * 2))
    small = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX))
    text = Text(no_wrap=True)
    for upper, lower in zip(small[::2], small[1::2]):
        for above, below in zip(upper, lower):
            text.append(_HALF, f"rgb({','.join(map(str, above))}) on rgb({','.join(map(str, below))})")
        text.append("\n")
    return text


def play(frames: Sequence[np.ndarray], fps: int, out: Console) -> None:
    """Plays a film once, in place."""
    with Live(console=out, screen=out.is_terminal, auto_refresh=False) as live:
        for frame in frames:
            begun = time.monotonic()
            live.update(blocks(frame, out.size.width - 1, out.size.height - 1), refresh=True)
            time.sleep(max(0.0, 1 / fps - (time.monotonic() - begun)))
