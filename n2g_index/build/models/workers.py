"""How does a build keep every core of a CPU busy?

torch can split each operation over the cores, and the cores then wait for each other after every one. With
models as small as those that are explained on a CPU, and with other programs on the machine, most of the time
goes into that waiting. Batches do not depend on each other, so it is better to run one batch per core, each
on a single torch thread; torch lets go of Python's lock while it computes.

On a GPU, or where torch has one thread only, batches run one after another in the caller's thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from threading import Barrier
from typing import TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def side_by_side(function: Callable[[Item], Answer], items: Iterable[Item], device: str) -> Iterator[Answer]:
    """Yield the function's answer for each item, in order; few items are read ahead.

    Args:
        function: what to do; it must not depend on the caller's thread.
        items: what to do it with.
        device: where the model is that the function runs.

    Yields:
        The answers.
    """
    import torch

    threads = torch.get_num_threads() if device == "cpu" else 1
    if threads == 1:
        yield from map(function, items)
        return
    pool, waiting = _pool(threads), deque[Future[Answer]]()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * threads:  # one under way and one in stock for each
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads that use one core each, kept for the whole process."""
    import torch

    pool = ThreadPoolExecutor(threads, "n2g-batch", initializer=torch.set_num_threads, initargs=(1,))
    started = Barrier(threads)
    for _ in pool.map(lambda _: started.wait(), range(threads)):
        pass
    torch.set_num_threads(threads)  # a thread's own setting shows in all that have not set theirs since
    return pool
