"""Durations as sketches: how many fell into each of a row of buckets that grow with them. Pure; seconds.

A bucket is the beginning of a float's own bits: its exponent and the first `DIGITS` binary digits of its fraction. So
there are eight buckets between any time and its double, a quantile is off by at most `ERROR` of itself, sketches are
merged by adding, and many floats find their buckets in a few calls, without a logarithm. It is a DDSketch (Masson, Rim
and Lee: "DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees", VLDB 2019) with the
logarithm interpolated between powers of two, as its authors propose for speed.
"""

from __future__ import annotations

import struct
import sys
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import accumulate, pairwise

Sketch = Counter[int]
"""How many durations by bucket. Bucket 0 is for `SHORTEST_S` and what is shorter."""

DIGITS = 3
ERROR = 1 / 17
"""A quantile's relative error at most: half the width of a bucket, by its middle."""

SHORTEST_S, LONGEST_S = 2.0**-14, 2.0**21
"""60 µs and 24 days: what lies outside counts as one of them."""

BUCKETS_MAX = 64
"""Buckets in which a sketch is packed: eight doublings. What is spread wider is told more coarsely."""

_SPARE = 4 - DIGITS  # a float's first 16 bits, its head, are sign, 11 of exponent, 4 of fraction
_FIRST = slice(3 if sys.byteorder == "little" else 0, None, 4)


def _edge(head: int) -> float:
    """The shortest duration with this head."""
    return float(struct.unpack(">d", struct.pack(">H6x", head))[0])


def _heads() -> range:
    """Of each bucket the first one, and that behind the last one."""
    first, last = (int(struct.unpack(">H", struct.pack(">d", each)[:2])[0]) for each in (SHORTEST_S, LONGEST_S))
    return range(first, last + (2 << _SPARE), 1 << _SPARE)


_HEADS = _heads()
_VALUES = [2 * low * high / (low + high) for low, high in pairwise(map(_edge, _HEADS))]
_BUCKETS = [0] * (1 << 16)  # by head; a list, for its numbers are made already
for _bucket, _head in enumerate(_HEADS[:-1]):  # what is shorter is in the first one, as is what is less than 0
    _BUCKETS[_head : _head + (1 << _SPARE)] = [_bucket] * (1 << _SPARE)
_BUCKETS[_HEADS[-1] : 1 << 15] = [len(_VALUES) - 1] * ((1 << 15) - _HEADS[-1])


def add(sketch: Sketch, durations: list[float]) -> float:
    """Counts durations, whatever a peer has made of them: less than nothing, without end, not a number. Returns their
    sum, as the sketch has them where they are such."""
    heads = memoryview(array("d", durations)).cast("B").cast("H")[_FIRST]
    sketch.update(map(_BUCKETS.__getitem__, heads))
    total = sum(durations)
    return total if 0 <= total < LONGEST_S else sum(min(d, LONGEST_S) for d in durations if d > 0)


def quantiles(sketch: Sketch, wanted: Sequence[float]) -> list[float | None]:
    """The durations below which such parts (ascending, 0 to 1) of all are; None of none."""
    found: list[float | None] = []
    last, seen = sketch.total() - 1, 0
    for bucket in sorted(sketch):
        seen += sketch[bucket]
        while len(found) < len(wanted) and seen > wanted[len(found)] * last:
            found.append(_VALUES[bucket])
    return found + [None] * (len(wanted) - len(found))


def cumulative(sketches: Iterable[Sketch], bounds: tuple[float, ...]) -> list[int]:
    """How many durations of all sketches took at most so long, for each of some ascending bounds, and how many there
    are; a bucket counts where its middle lies."""
    places, counts = _places(bounds), [0] * (len(bounds) + 1)
    for sketch in sketches:
        for bucket, count in sketch.items():
            counts[places[bucket]] += count
    return list(accumulate(counts))


@lru_cache
def _places(bounds: tuple[float, ...]) -> list[int]:
    """Of each bucket the first bound that it does not exceed."""
    return [bisect_left(bounds, value) for value in _VALUES]


def packed(sketch: Sketch) -> list[int]:
    """As few small numbers as possible: by bucket how far from the one before, and how many."""
    width = 0
    while len(sketch) > BUCKETS_MAX:
        width += 1
        sketch = _coarser(sketch, width)
    numbers: list[int] = []
    before = 0
    for bucket in sorted(sketch):
        numbers += (bucket - before, sketch[bucket])
        before = bucket
    return numbers


def _coarser(sketch: Sketch, width: int) -> Sketch:
    """With 2 to the `width` neighbouring buckets counted as the middle one of them."""
    coarse: Sketch = Counter()
    for bucket, count in sketch.items():
        coarse[min(bucket >> width << width | 1 << (width - 1), len(_VALUES) - 1)] += count
    return coarse


def unpacked(numbers: Iterable[int]) -> Sketch:
    """See `packed`."""
    sketch: Sketch = Counter()
    bucket, pairs = 0, iter(numbers)
    for gap, count in zip(pairs, pairs, strict=True):
        bucket += gap
        sketch[bucket] = count
    return sketch
