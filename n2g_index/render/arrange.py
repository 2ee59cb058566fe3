"""In which order, and how high, do the boxes of neighbouring columns stand?

Order: barycenter sweeps, the best of them by counted crossings. Height: least squares that pull each box
towards its neighbours while keeping the order. Both deterministic; time a constant number of sweeps, each
of which sorts the columns and counts the crossings of their links.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise

_SWEEPS = 10

_Levels = Sequence[Sequence[int]]
_Neighbours = Mapping[int, Sequence[int]]


def arrange(
    levels: _Levels, links: Iterable[tuple[int, int]], last: Collection[int] = ()
) -> tuple[list[list[int]], dict[int, float]]:
    """Order the columns of a layered graph and place their members.

    Args:
        levels: the members of each column, in the order to start from.
        links: pairs of members of neighbouring columns.
        last: members that stay at the bottom of their column.

    Returns:
        The ordered columns, and for each member its row, from 0; members of a column are at least 1 apart
        and no row exceeds that of the fullest column.
    """
    around: dict[int, list[int]] = defaultdict(list)
    for a, b in links:
        around[a].append(b)
        around[b].append(a)
    ordered = _order(levels, around, last)
    return ordered, _rows(ordered, around)


def _order(levels: _Levels, around: _Neighbours, last: Collection[int]) -> list[list[int]]:
    current = [list(level) for level in levels]
    best, fewest = current, crossings(current, around)
    for sweep in range(_SWEEPS):
        if not fewest:
            break
        current = [list(level) for level in current]
        steps = range(1, len(current)) if sweep % 2 == 0 else range(len(current) - 2, -1, -1)
        for depth in steps:
            fixed = current[depth - 1 if sweep % 2 == 0 else depth + 1]
            _sort_by_barycenter(current[depth], {member: i for i, member in enumerate(fixed)}, around, last)
        count = crossings(current, around)
        if count < fewest:
            best, fewest = current, count
    return best


def _sort_by_barycenter(
    level: list[int], fixed: Mapping[int, int], around: _Neighbours, last: Collection[int]
) -> None:
    key: dict[int, tuple[bool, float]] = {}
    for place, member in enumerate(level):
        places = [fixed[other] for other in around.get(member, ()) if other in fixed]
        key[member] = (member in last, sum(places) / len(places) if places else place)
    level.sort(key=key.__getitem__)  # stable: equal ones keep their order


def crossings(levels: _Levels, around: _Neighbours) -> int:
    """Number of pairs of links that cross."""
    count = 0
    for left, right in pairwise(levels):
        place = {member: i for i, member in enumerate(right)}
        ends: list[int] = []  # sorted ends of the links that start above the present one
        for member in left:
            starts_here = [place[other] for other in around.get(member, ()) if other in place]
            count += sum(len(ends) - bisect_right(ends, end) for end in starts_here)
            for end in starts_here:
                insort(ends, end)
    return count


def _rows(levels: _Levels, around: _Neighbours) -> dict[int, float]:
    height = max(len(level) for level in levels)
    rows = {member: i + (height - len(level)) / 2 for level in levels for i, member in enumerate(level)}
    for sweep in range(_SWEEPS):
        for level in levels if sweep % 2 == 0 else reversed(levels):
            wanted = []
            for member in level:
                others = around.get(member, ())
                wanted.append(sum(rows[o] for o in others) / len(others) if others else rows[member])
            rows.update(zip(level, spread(wanted, height), strict=True))
    return rows


def spread(wanted: Sequence[float], height: int) -> list[float]:
    """The rows closest to the wanted ones (least squares) that keep their order at least 1 apart, all
    within `height` rows: pool adjacent violators, then clamp."""
    blocks: list[tuple[float, int]] = []  # sum of shifts, how many
    for i, row in enumerate(wanted):
        total, count = row - i, 1
        while blocks and blocks[-1][0] / blocks[-1][1] >= total / count:
            total, count = total + blocks[-1][0], count + blocks[-1][1]
            blocks.pop()
        blocks.append((total, count))
    shifts = [total / count for total, count in blocks for _ in range(count)]
    return [i + min(max(shift, 0.0), height - len(wanted)) for i, shift in enumerate(shifts)]
