"""Which case each item of a batch is cut from: a function of the item's number alone.

Items are numbered through all batches, `step * batch + item`, so that what a step trains on
depends neither on workers nor on restarts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np

from brodmann.augment.base import Augmentation, CannotDraw
from brodmann.core import Dataset, LabelMap, Sample, keyed_rng
from brodmann.core.seeds import Key
from brodmann.preprocess import Normalisation
from brodmann.problems.semantic.cases import Case

Card = TypeVar("Card")


class Dealer(Protocol):
    """Number of an item -> its case."""

    def __getitem__(self, number: int) -> Case: ...


class Deck(Generic[Card]):
    """Cards dealt round after round: each comes once before any comes twice.

    Parameters
    ----------
    cards : sequence
        At least one.
    seed : int
    keys : int or str
        What the deck is for; its order in each round is keyed by (seed, keys, round).

    Example
    -------
    >>> deck = Deck("abc", 0, "train")
    >>> sorted(deck[number] for number in (3, 4, 5)), deck.dealt(4) == (1, deck[4])
    (['a', 'b', 'c'], True)
    """

    def __init__(self, cards: Sequence[Card], seed: int, *keys: Key) -> None:
        self.cards, self.seed, self.keys = cards, seed, keys
        self._order: tuple[int, np.ndarray] = (-1, np.zeros(0, int))

    def __len__(self) -> int:
        """Cards in one round."""
        return len(self.cards)

    def __getitem__(self, number: int) -> Card:
        return self.dealt(number)[1]

    def dealt(self, number: int) -> tuple[int, Card]:
        """The round that a number falls into, and its card."""
        round_, position = divmod(number, len(self.cards))
        if self._order[0] != round_:
            rng = keyed_rng(self.seed, *self.keys, "deck", round_)
            self._order = round_, rng.permutation(len(self.cards))
        return round_, self.cards[self._order[1][position]]


@dataclass(frozen=True, eq=False)
class Maker:
    """Copies of the samples of a pool, made when they are asked for.

    Attributes
    ----------
    method : Augmentation
        Fitted to the pool.
    pool : Dataset
        Targets, and what mixing methods draw partners from. Worker processes are handed it.
    seed : int
    """

    method: Augmentation
    pool: Dataset
    seed: int

    @property
    def label_map(self) -> LabelMap:
        """Of what is made: the pool's, perhaps with an ignore id."""
        return self.method.tree(self.pool.label_map)

    def copy(self, target: str, copy: int) -> Sample:
        """What `expand` writes for this copy; the sample unchanged where it would skip it."""
        from brodmann.augment.expand import make_copy

        try:
            return make_copy(self.method, self.pool, target, copy, self.seed)
        except CannotDraw:
            return self.pool[target]


class Online:
    """Copies as cases, made when they are dealt: round r gives copy r of every target.

    Parameters
    ----------
    maker : Maker
    normalisation : Normalisation
    spacing : sequence of float
        Micrometres, to which every case is brought.
    seed : int
    keys : int or str
        As for `Deck`.

    A case costs one whole image to make, which `train.workers` share.
    """

    def __init__(
        self,
        maker: Maker,
        normalisation: Normalisation,
        spacing: Sequence[float],
        seed: int,
        *keys: Key,
    ) -> None:
        self.maker, self.normalisation = maker, normalisation
        self.spacing, self.seed = tuple(spacing), seed
        self.deck = Deck(maker.pool.names, seed, *keys)

    def __getitem__(self, number: int) -> Case:
        copy, target = self.deck.dealt(number)
        sample = self.maker.copy(target, copy)
        return Case.of(sample, self.maker.label_map, self.normalisation, self.seed, self.spacing)


@dataclass(frozen=True)
class Turns:
    """A round of the first dealer, a round of the second, and so on; `size` items a round.

    >>> "".join(Turns("abcd", "uvwx", 2)[number] for number in range(6))
    'abuvcd'
    """

    first: Dealer
    second: Dealer
    size: int

    def __getitem__(self, number: int) -> Case:
        round_, position = divmod(number, self.size)
        dealer = self.second if round_ % 2 else self.first
        return dealer[round_ // 2 * self.size + position]


@dataclass(frozen=True)
class Phases:
    """One dealer for the first `change` items, then the other from its beginning.

    >>> "".join(Phases("abcd", "uvwx", 3)[number] for number in range(5))
    'abcuv'
    """

    first: Dealer
    then: Dealer
    change: int

    def __getitem__(self, number: int) -> Case:
        return self.first[number] if number < self.change else self.then[number - self.change]
