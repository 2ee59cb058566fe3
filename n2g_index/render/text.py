"""What does a neuron's trie look like in a terminal?

One tree per activating token, strongest support first; each branch walks backwards through the context.
Ignored positions have no lines of their own: they are written before the token that they lead to. Sorting
the branches costs n log n in the nodes, everything else is linear.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from n2g_index.graph.labels import ANY, position, shorten, visible
from n2g_index.graph.paths import IGNORE
from n2g_index.render.palette import number

if TYPE_CHECKING:
    from n2g_index.graph.trie import Trie, TrieNode

_JOIN = " ← "
_LONGEST = 40  # columns of one token
_LEGEND = "● a path ends here (activation) · ×N observations · * any token"
_EXCEPTIONS = " · ○ an exception, does not fire"

_Paint = Callable[[str, str], str]
_RED, _BLUE, _DIM, _BOLD = "31", "34", "2", "1"


@dataclass(frozen=True, slots=True)
class _Step:
    """A literal token and how many ignored positions lead to it."""

    node: TrieNode
    ignored: int
    fires: bool
    """False where an exception ends."""


@dataclass(slots=True)
class _Branch:
    """One line of the tree, a chain of steps without a fork; the first one, without steps, holds the rest."""

    steps: Sequence[_Step]
    parent: int
    children: list[int] = field(default_factory=list)
    size: int = 1
    """Lines of this branch and of all that fork from it."""


def to_text(
    trie: Trie, labels: Mapping[int, str], *, title: str, max_lines: int = 60, color: bool = False
) -> str:
    """Draw a trie as a tree of lines.

    Args:
        trie: the neuron's trie.
        labels: token id -> exact text.
        title: the first line, usually the neuron's name.
        max_lines: most lines in all; the branches with the least support are folded. At least the title,
            one line and the legend are written.
        color: use ANSI colours, red for activating tokens and blue for context.
    """
    paint = _paint if color else _plain
    branches = _branches(trie)
    if len(branches) == 1:
        return f"{paint(visible(title), _BOLD)}\nno paths\n"
    shown = _choose(branches, max_lines - 2)
    legend = _LEGEND if all(path.fires for path in trie.paths) else _LEGEND + _EXCEPTIONS
    lines = [paint(visible(title), _BOLD), *_lines(branches, shown, labels, paint), paint(legend, _DIM)]
    return "\n".join(lines) + "\n"


def _branches(trie: Trie) -> list[_Branch]:
    """All lines, each after the one that it forks from and after its stronger siblings."""
    root = -1
    ends = trie.ends()
    above: dict[int, tuple[int, int]] = {}  # trie node -> (its nearest literal, ignored positions since)
    below: dict[int, list[_Step]] = defaultdict(list)  # literal -> the literals next to it
    for node in trie.nodes:  # parents come before their children
        literal, ignored = (root, 0) if node.parent_id is None else above[node.parent_id]
        if node.token_id == IGNORE:
            above[node.node_id] = (literal, ignored + 1)
        else:
            above[node.node_id] = (node.node_id, 0)
            fires = node.node_id not in ends or ends[node.node_id].fires
            below[literal].append(_Step(node, ignored, fires))
    for steps in below.values():
        steps.sort(key=lambda s: (-s.node.support, -(s.node.end_activation or 0.0), s.node.node_id))

    branches = [_Branch((), parent=root)]
    waiting = [(step, 0) for step in reversed(below[root])]
    while waiting:
        step, parent = waiting.pop()
        chain = [step]
        while len(below[chain[-1].node.node_id]) == 1:
            chain += below[chain[-1].node.node_id]
        branches[parent].children.append(len(branches))
        waiting += [(next_step, len(branches)) for next_step in reversed(below[chain[-1].node.node_id])]
        branches.append(_Branch(chain, parent))
    for branch in reversed(branches[1:]):
        branches[branch.parent].size += branch.size
    return branches


def _choose(branches: Sequence[_Branch], room: int) -> set[int]:
    """The branches with the most support that fit into `room` lines with a line for each fold."""
    # A branch has no more support than its parent and comes later, so that parents are chosen first.
    order = sorted(range(1, len(branches)), key=lambda i: (-branches[i].steps[0].node.support, i))
    hidden = {0: len(branches[0].children)}  # shown branch -> how many of its children are not
    folds, best = 1, 0
    for count, i in enumerate(order, start=1):
        parent = branches[i].parent
        hidden[parent] -= 1
        hidden[i] = len(branches[i].children)
        folds += (hidden[i] > 0) - (hidden[parent] == 0)
        if count + folds <= room:
            best = count
    shown = {0, *order[:best]}
    for i in sorted(shown):  # a fold of one line takes as much room as that line
        rest = [child for child in branches[i].children if child not in shown]
        if len(rest) == 1 and branches[rest[0]].size == 1:
            shown.add(rest[0])
    return shown


def _folded(branches: Sequence[_Branch], shown: Collection[int], i: int) -> int:
    """How many lines the fold under a branch stands for."""
    return sum(branches[child].size for child in branches[i].children if child not in shown)


def _lines(
    branches: Sequence[_Branch], shown: Collection[int], labels: Mapping[int, str], paint: _Paint
) -> list[str]:
    lines: list[str] = []
    # What is still to be written, the next one last: its text, the indent of what forks from it, itself.
    waiting: list[tuple[str, str, int | None]] = [("", "", 0)]
    while waiting:
        text, indent, i = waiting.pop()
        if i != 0:
            lines.append(text)
        if i is None:
            continue
        below: list[tuple[str, int | None]] = [
            (_line(branches[child], labels, paint), child) for child in branches[i].children if child in shown
        ]
        if folded := _folded(branches, shown, i):
            below.append((paint(f"… and {folded} more branch{'es' * (folded > 1)}", _DIM), None))
        for at, (line, child) in reversed(list(enumerate(below, start=1))):
            if i == 0:  # activating tokens stand at the margin
                waiting.append((line, "", child))
            else:
                fork, trunk = ("└─ ", "   ") if at == len(below) else ("├─ ", "│  ")
                waiting.append((paint(indent + fork, _DIM) + line, indent + trunk, child))
    return lines


def _line(branch: _Branch, labels: Mapping[int, str], paint: _Paint) -> str:
    parts: list[str] = []
    for i, step in enumerate(branch.steps):
        if step.ignored:
            parts.append(ANY if step.ignored == 1 else f"{ANY}×{step.ignored}")
        node = step.node
        token = shorten(position(labels.get(node.token_id, f"#{node.token_id}")), _LONGEST)
        part = paint(token, _BLUE if node.depth else _RED)
        if node.support and (node.is_end or i == len(branch.steps) - 1):
            part += paint(f" ×{node.support}", _DIM)
        if node.end_activation is not None:
            part += f" {'●' if step.fires else '○'} {number(node.end_activation)}"
        parts.append(part)
    return _JOIN.join(parts)


def _plain(text: str, code: str) -> str:
    return text


def _paint(text: str, code: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m"
