"""msgpack as everything of ours uses it: on the wire, in the store, between a manager and its workers. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec

from eventmq import limits


def _plain(value: Any) -> Any:
    """A value of a class derived from `str`, `int` or `float` (a JobHandle, Django's SafeString) as that."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    raise TypeError(f"objects of type {type(value).__qualname__} have no form in msgpack")


_encoder = msgspec.msgpack.Encoder(enc_hook=_plain)
_decoders: dict[type, msgspec.msgpack.Decoder[Any]] = {}

B = TypeVar("B")
T = TypeVar("T")


def decode(body: bytes, type: type[B]) -> B:
    """The body as an instance of `type`.

    Raises:
        msgspec.MsgspecError: The bytes are not msgpack, or not of this shape.
    """
    decoder = _decoders.get(type)
    if decoder is None:
        decoder = _decoders[type] = msgspec.msgpack.Decoder(type)
    value: B = decoded(decoder, body)
    return value


def decoded(decoder: msgspec.msgpack.Decoder[T] | msgspec.json.Decoder[T], body: bytes | str) -> T:
    """What the decoder makes of `body`. Lists in lists without end, and text that is none, are as malformed as anything
    else.

    Raises:
        msgspec.MsgspecError: The bytes are not what it decodes.
    """
    try:
        return decoder.decode(body)  # type: ignore[arg-type]
    except RecursionError:
        raise msgspec.DecodeError("nested too deeply") from None
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(f"text that is not UTF-8: {error}") from None


pack = _encoder.encode
"""Any value as msgpack: payloads, options, values, and what goes through a worker's socketpair."""

pack_sorted = msgspec.msgpack.Encoder(enc_hook=_plain, order="deterministic").encode
"""The same with maps and sets in order: equal values are equal bytes."""

_plain_decoder = msgspec.msgpack.Decoder()


def unpack(packed: bytes) -> Any:
    """msgpack as plain Python objects.

    Raises:
        msgspec.MsgspecError: The bytes are not msgpack.
    """
    return decoded(_plain_decoder, packed)


def batches(items: list[T], sizes: list[int]) -> Iterator[list[T]]:
    """`items` of these sizes in pieces of at most `BATCH_JOBS_MAX` items and about `BATCH_BYTES`."""
    if len(items) <= limits.BATCH_JOBS_MAX and sum(sizes) <= limits.BATCH_BYTES:
        yield items
        return
    batch: list[T] = []
    size = 0
    for item, its_size in zip(items, sizes, strict=True):
        if batch and (size >= limits.BATCH_BYTES or len(batch) >= limits.BATCH_JOBS_MAX):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += its_size
    yield batch
