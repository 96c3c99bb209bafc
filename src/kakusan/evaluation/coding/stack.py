"""A stack of bits that symbols are pushed on and popped from: asymmetric numeral systems (Duda 2013).

To push a symbol of probability f / 2^32 makes the stack log2(2^32 / f) bits longer; to pop from any stack draws a
symbol with just these probabilities and makes it as much shorter. So bits that are there already are as good as
chance, and to push what was popped gives them back (Townsend, Bird & Barber 2019). Arithmetic of whole numbers
alone: exact anywhere.

The newest bits are a number, 2^64 to 2^96; older ones 32-bit words. A state that is 2^32 times as large as a total
of frequencies makes the rounding of its division cost less than 2^-32 bits a symbol.
"""

from collections.abc import Iterator
from itertools import count

import torch

from kakusan.randomness import Purpose, words

PRECISION = 32
TOTAL = 1 << PRECISION
"""Sum of the frequencies of all symbols."""
LOWEST = 1 << 64
"""The state of an empty stack, below which a word is taken."""
STATE_BYTES = 12
WORD_BYTES = 4
_WORD, _MASK = 32, (1 << 32) - 1
_BLOCK = 1024


class Stack:
    """The stack: a state and words, the newest last.

    seed: where the words of an empty stack come from, or None, where popping from one raises `EmptyStackError`.
    """

    def __init__(self, state: int = LOWEST, older: list[int] | None = None, seed: int | None = 0) -> None:
        self.state, self.words = state, older if older is not None else []
        self._fresh = iter(()) if seed is None else fresh_words(seed)

    def __len__(self) -> int:
        """Bits that it takes to store it."""
        return 8 * (STATE_BYTES + WORD_BYTES * len(self.words))

    @property
    def slot(self) -> int:
        """A number from 0 to 2^32 - 1: the next symbol is the one whose frequencies it falls into."""
        return self.state & _MASK

    def push(self, start: int, frequency: int) -> None:
        """Put a symbol on top, whose slots are start, ..., start + frequency - 1."""
        state, limit = self.state, frequency << 64
        while state >= limit:
            self.words.append(state & _MASK)
            state >>= _WORD
        self.state = (state // frequency << PRECISION) + state % frequency + start

    def pop(self, start: int, frequency: int) -> None:
        """Take off the symbol that `slot` tells. Raises EmptyStackError where there are no bits, and no seed."""
        state = frequency * (self.state >> PRECISION) + (self.state & _MASK) - start
        while state < LOWEST:
            word = self.words.pop() if self.words else next(self._fresh, None)
            if word is None:
                raise EmptyStackError
            state = state << _WORD | word
        self.state = state

    def is_as_begun(self, seed: int) -> bool:
        """Whether all that is left are the words of this seed that pushing began with."""
        fresh = [word for word, _ in zip(fresh_words(seed), self.words, strict=False)]
        return self.state == LOWEST and self.words == fresh[::-1]


class EmptyStackError(ValueError):
    """More was popped than was ever pushed."""


def fresh_words(seed: int) -> Iterator[int]:
    """32-bit words that are a function of the seed."""
    for block in count():
        yield from words(seed, Purpose.CODING, block, torch.zeros(1, dtype=torch.int64), _BLOCK)[0].tolist()
