"""A fire simulator that is another program: reads landscape and breaks from standard input, prints how many cells burn."""

import json
import sys


def burned_cells(burnable: list[list[bool]], breaks: list[list[bool]]) -> int:
    """Fire starts in the first burnable cell that is no break, and reaches all that hang together with it by sides."""
    free = {
        (row, column)
        for row, flags in enumerate(burnable)
        for column, burns in enumerate(flags)
        if burns and not breaks[row][column]
    }
    burning = [min(free)] if free else []
    burned = set(burning)
    while burning:
        row, column = burning.pop()
        for cell in ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)):
            if cell in free and cell not in burned:
                burned.add(cell)
                burning.append(cell)
    return len(burned)


if __name__ == "__main__":
    print(burned_cells(**json.load(sys.stdin)))
