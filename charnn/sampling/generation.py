"""Generated texts as they come."""

import sys
from collections.abc import Callable, Iterator
from typing import TypeVar

from charnn.sampling.filters import FilterChain

T = TypeVar("T")
U = TypeVar("U")


class Generation(Iterator[T]):
    """An iterator of generated texts, or of the pieces of one.

    `relaxed` is the number of symbols so far for which `no_repeat` was dropped, because it would
    have left nothing to draw.
    """

    def __init__(self, items: Iterator[T], chain: FilterChain) -> None:
        self._items, self.chain = items, chain

    @property
    def relaxed(self) -> int:
        """The number of symbols for which a filter was dropped."""
        return self.chain.relaxed

    def __next__(self) -> T:
        """Return the next text or piece."""
        if "torch" not in sys.modules:
            return next(self._items)
        from charnn.torch_modes import are_default, default_torch_modes

        if are_default():  # a character of a small model takes hardly longer than the block below
            return next(self._items)
        with default_torch_modes():
            return next(self._items)

    def through(self, step: Callable[["Generation[T]"], Iterator[U]]) -> "Generation[U]":
        """Return the generation of what `step` yields from this one."""
        return Generation(step(self), self.chain)
