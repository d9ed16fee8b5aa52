"""A frame of a film: the game's picture, with what goes on written below it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from flowrl.films.footage import Episode, Shot
from flowrl.films.whole_episodes import WholeEpisode, WholeShot
from flowrl.records.run_record import PlannedTask

_INK, _DIM, _PAPER = (235, 238, 241), (163, 173, 184), (20, 23, 26)
_GOOD, _BAD = (99, 199, 143), (240, 132, 148)
_LINE = 1.45
"""Height of a line of text over the size of its letters."""
_NARROWEST = 216
"""Pixels that the text needs, however small the cells of the game are drawn."""
_HELD_LINES = 2
"""For what the player holds."""
_NUM_LINES = 3 + _HELD_LINES


def frames(episode: Episode, plan: Sequence[PlannedTask], hold: int = 1) -> list[np.ndarray]:
    """uint8 ``[height, width, 3]`` each, all of one even size (films need that).

    Args:
        hold: how often the last frame is repeated, with how the episode ended on it.
    """
    shots = episode.shots
    steps = shots[-1].step
    found = [_frame(shot, plan, steps, None) for shot in shots]
    return found + [_frame(shots[-1], plan, steps, episode.is_success)] * hold


def side_by_side(films: Sequence[Sequence[np.ndarray]], labels: Sequence[str]) -> list[np.ndarray]:
    """Films beside each other, each with its label above it; one that is over shows its last frame until all are.

    Args:
        films: frames of one size.
    """
    height, width = films[0][0].shape[:2]
    size = max(11, width // 24)
    top = _even(round(size * _LINE) + size // 2)
    heads = [_head(label, width, top, size) for label in labels]
    gap = np.full((top + height, _even(size // 2), 3), _PAPER, np.uint8)

    def column(number: int, moment: int) -> np.ndarray:
        film = films[number]
        return np.concatenate([heads[number], film[min(moment, len(film) - 1)]])

    def frame(moment: int) -> np.ndarray:
        columns = [part for number in range(len(films)) for part in (gap, column(number, moment))]
        return np.concatenate(columns[1:], axis=1)

    return [frame(moment) for moment in range(max(map(len, films)))]


def _head(label: str, width: int, height: int, size: int) -> np.ndarray:
    picture = Image.new("RGB", (width, height), _PAPER)
    font = ImageFont.load_default(size)
    ImageDraw.Draw(picture).text((size // 2, size // 4), _fitting(label, font, width - size), fill=_INK, font=font)
    return np.asarray(picture)


def whole_frames(episode: WholeEpisode, fps: int) -> list[np.ndarray]:
    """As `frames`, of a whole episode. An achievement is written for a second, and so is how the episode ended.

    Args:
        fps: frames of the film a second.
    """
    shots, found = episode.shots, []
    news, until = "", -1
    for number, shot in enumerate(shots):
        if shot.newest:
            news, until = shot.newest, number + fps
        found.append(_whole_frame(shot, episode, [(news, _GOOD)] if number < until else []))
    ending = (episode.ending, _BAD if episode.death else _GOOD)
    return found + [_whole_frame(shots[-1], episode, [ending])] * fps


def _frame(shot: Shot, plan: Sequence[PlannedTask], steps: int, is_success: bool | None) -> np.ndarray:
    task = plan[shot.task]
    of = f" x{task.n}" if task.n != 1 else ""
    ending = [] if is_success is None else [("done", _GOOD) if is_success else ("not done", _BAD)]
    rows = [
        [(f"{task.skill_name}{of}", _INK), *ending],
        [(f"task {shot.task + 1} of {len(plan)}, expert {task.global_expert_idx}", _DIM)],
        [(f"step {shot.step} of {steps}, reward {shot.reward:.2f}", _DIM)],
    ]
    return _captioned(shot.picture, rows, shot.held)


def _whole_frame(shot: WholeShot, episode: WholeEpisode, more: _Row) -> np.ndarray:
    aim = shot.serves or shot.restores
    rows = [
        [(f"{shot.task} for {aim}" if aim else shot.task, _INK)],
        [(f"{shot.num_unlocked} of {episode.num_goals} unlocked", _DIM), *more],
        [(f"step {shot.step} of {episode.shots[-1].step}", _DIM)],
    ]
    return _captioned(shot.picture, rows, shot.held)


_Row = Sequence[tuple[str, tuple[int, int, int]]]
"""Words and their colours, from left to right."""


def _captioned(drawn: np.ndarray, rows: Sequence[_Row], held: Mapping[str, int]) -> np.ndarray:
    """The game's picture with lines of text below it, and what the player holds."""
    height, width = drawn.shape[:2]
    size = max(11, width // 24)
    line = round(size * _LINE)
    picture = Image.new("RGB", (_even(max(width, _NARROWEST)), _even(height + _NUM_LINES * line + size // 2)), _PAPER)
    picture.paste(Image.fromarray(drawn), (0, 0))
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(size)
    things = _in_lines([f"{name} {amount}" for name, amount in held.items()], font, picture.width - size, _HELD_LINES)
    for number, row in enumerate([*rows, *([(thing, _DIM)] for thing in things or ["holds nothing"])]):
        left = size // 2
        for text, colour in row:
            text = _fitting(text, font, picture.width - left - size // 2)
            pen.text((left, height + number * line + size // 4), text, fill=colour, font=font)
            left += round(font.getlength(text)) + size
    return np.asarray(picture)


def _in_lines(words: Sequence[str], font: ImageFont.FreeTypeFont, width: int, most: int) -> list[str]:
    """The words in as few lines as they fit in; what is too much for ``most`` lines makes the last one too long."""
    lines: list[str] = []
    for word in words:
        longer = f"{lines[-1]}  {word}" if lines else word
        if lines and (len(lines) == most or font.getlength(longer) <= width):
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _even(side: int) -> int:
    return side + side % 2


def _fitting(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"
