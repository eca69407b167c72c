"""Whatever bytes: the codecs and the settings take them or refuse them in the one way they say, and the deciding code
of the Router takes any message. The suite tries some; `make fuzz` tries many more, a million of them on a real Router
(`tests/system/test_fuzz_router.py`)."""

from __future__ import annotations

import contextlib
import math
import types
import typing
from typing import Any

import hypothesis
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutants import SEEDS, mutants
from world import World

from eventmq import settings
from eventmq.errors import InvalidMessageError, SettingsError
from eventmq.protocol import calls, v1, v2
from eventmq.store.open import open_store

pytestmark = pytest.mark.fuzz

# ---- eMQP/2.0 ----------------------------------------------------------------------------------------------

few = hypothesis.settings(max_examples=max(10, hypothesis.settings.default.max_examples // 5))
"""For tests that are run for each type of body."""

SIMPLE: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(allow_nan=False),
    bool: st.booleans(),
    str: st.text(max_size=20),
    bytes: st.binary(max_size=50),
    type(None): st.none(),
    msgspec.Raw: st.just(msgspec.Raw(b"\xc0")),
    Any: st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=5) | st.binary(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=8,
    ),
}


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a field's type."""
    if hint in SIMPLE:
        return SIMPLE[hint]
    kind, inner = typing.get_origin(hint), typing.get_args(hint)
    if kind is typing.Annotated:
        least = getattr(inner[1], "ge", None)
        return values(inner[0]) if least is None else st.integers(least, getattr(inner[1], "le", None) or 2**63 - 1)
    if kind in (types.UnionType, typing.Union):
        return st.one_of(*map(values, inner))
    if kind is list:
        return st.lists(values(inner[0]), max_size=4)
    if kind is tuple and inner[-1] is Ellipsis:
        return st.lists(values(inner[0]), max_size=4).map(tuple)
    if kind is tuple:
        return st.tuples(*map(values, inner))
    if kind is typing.Literal:
        return st.sampled_from(inner)
    if kind is dict:
        return st.dictionaries(values(inner[0]), values(inner[1]), max_size=4)
    return built(hint)


def built(body: type[Any]) -> st.SearchStrategy[Any]:
    return st.builds(
        body, **{name: values(hint) for name, hint in typing.get_type_hints(body, include_extras=True).items()}
    )


def bodies() -> list[type[v2.Body]]:
    return sorted(v2.Body.__subclasses__(), key=lambda body: body.__name__)


@pytest.mark.parametrize("body", bodies(), ids=lambda body: body.__name__)
@few
@given(data=st.data())
def test_a_body_comes_back_as_it_went(body: type[v2.Body], data: st.DataObject) -> None:
    sent = data.draw(built(body))
    assert v2.decode(v2.encode(b"X", sent)[3], body) == sent


@pytest.mark.parametrize("body", bodies(), ids=lambda body: body.__name__)
@few
@given(packed=st.binary(max_size=200))
def test_any_bytes_are_a_body_or_are_refused(body: type[v2.Body], packed: bytes) -> None:
    with contextlib.suppress(msgspec.MsgspecError):
        assert isinstance(v2.decode(packed, body), body)


@pytest.mark.parametrize("name", SEEDS)
def test_nearly_right_bodies_are_bodies_or_are_refused(name: str, thorough: bool) -> None:
    for frames in mutants(name, 100_000 if thorough else 2_000, 1):
        for body in bodies():
            with contextlib.suppress(msgspec.MsgspecError):
                v2.decode(frames[-1] if frames else b"", body)


@given(built(v2.Options))
def test_options_come_back_as_they_went(options: v2.Options) -> None:
    packed = v2.pack_options(options)
    assert (v2.decode(packed, v2.Options) if packed else v2.Options()) == options


# ---- eMQP/1.0 ----------------------------------------------------------------------------------------------

text = st.text(max_size=20)
names = st.from_regex(r"[a-z][a-z0-9_]{0,5}", fullmatch=True)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)


@given(
    st.builds(
        v1.Headers,
        reply_requested=st.just(True),
        retry_count=st.integers(0, 10**9),
        timeout_s=st.none() | st.integers(0, 99_999).map(float),
        guarantee=st.just(False),
        nohaste=st.just(False),
        run_count=st.none(),
    )
)
def test_headers_come_back_as_they_went(headers: v1.Headers) -> None:
    assert v1.parse_headers(v1.format_headers(headers)) == headers


@given(text, text, names, names, st.lists(json_values, max_size=3), st.dictionaries(text, json_values, max_size=3))
def test_a_job_comes_back_as_it_went(
    id: str, queue: str, path: str, function: str, args: list[Any], kwargs: dict[str, Any]
) -> None:
    job = v2.Job(id, queue, calls.join_name(path, function), calls.pack_call(tuple(args), kwargs))
    frames = v1.format_request(job, 7.0)
    again, headers = v1.parse_request(v1.text(frames[3]), frames[4:])
    assert (again.id, again.queue, again.name) == (job.id, job.queue, job.name)
    assert calls.unpack_call(again.payload) == calls.unpack_call(job.payload)
    assert headers == v1.Headers(reply_requested=True, timeout_s=7.0)


@given(json_values, text)
def test_a_reply_comes_back_as_it_went(value: Any, id: str) -> None:
    assert v1.parse_reply([v1.format_value(value), id.encode()]) == (id, value)


@pytest.mark.parametrize(
    "parse",
    [
        lambda frames: [v1.text(frame) for frame in frames],
        lambda frames: v1.parse_headers(v1.text(frames[0])),
        lambda frames: v1.parse_queues(v1.text(frames[0])),
        lambda frames: v1.parse_call(frames[0]),
        lambda frames: v1.parse_request("id", frames),
        lambda frames: v1.parse_reply(frames),
    ],
    ids=["text", "headers", "queues", "call", "request", "reply"],
)
@given(frames=st.lists(st.binary(max_size=60) | text.map(str.encode), min_size=1, max_size=4))
def test_any_frames_are_parsed_or_are_refused(parse: Any, frames: list[bytes]) -> None:
    with contextlib.suppress(InvalidMessageError):
        parse(frames)


# ---- the Router without sockets ------------------------------------------------------------------------------


def test_the_deciding_code_takes_any_message(thorough: bool) -> None:
    """Peers with three identities, so that what one message began another one may break."""
    world = World(open_store("memory:", "none"))
    world.join(b"m", credit=100)
    streams = [mutants(name, 200_000 if thorough else 3_000, 2) for name in SEEDS]
    for n, some in enumerate(zip(*streams, strict=True)):
        sender = b"peer-%d" % (n % 3)
        world.turn(*((name, [sender, *frames]) for name, frames in zip(SEEDS, some, strict=True)))
        world.sent.clear()
        world.router.notes.clear()
    refused = world.router.refusals
    assert {"malformed", "unsupported_version", "unknown_command", "unknown_peer", "invalid_job"} <= refused.keys()
    assert world.router.ledger.counts["accepted"] > 10


# ---- settings ----------------------------------------------------------------------------------------------

NAMES = [row.name for row in settings.table()]
words = (
    st.sampled_from(
        ["", "0", "-1", "1e999", "nan", "5m", "1h", "true", "tcp://127.0.0.1:1", "a:1,b:2", "é\x00", "[", "%(x)s"]
    )
    | text
)
ini_lines = st.one_of(
    st.sampled_from([f"[{name}]" for name in (*settings.SECTIONS, "publisher", "nothing", "")]),
    st.builds("{}{}{}".format, st.sampled_from(NAMES) | text, st.sampled_from(["=", " = ", ":", " "]), words),
    words,
    st.sampled_from(["# x", "; x", "  continued", "\t", "\x0c", "\x85", "\u2028", "\ufeff", "[router", "= x"]),
)


@given(data=st.data())
def test_any_file_and_environment_are_settings_or_are_refused(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.ini"
    newline = data.draw(st.sampled_from(["\n", "\r\n", "\r"]))
    content = newline.join(data.draw(st.lists(ini_lines, max_size=8))).encode()
    file.write_bytes(data.draw(st.just(content) | st.binary(max_size=100)))
    given = st.builds("EVENTMQ_{}".format, st.sampled_from(NAMES).map(str.upper) | text)
    environ = data.draw(st.dictionaries(given | text, words, max_size=4))
    component = data.draw(st.sampled_from(sorted(settings.COMPONENTS)))
    with contextlib.suppress(SettingsError):
        loaded = settings.load(component, {}, environ, file)
        assert math.isfinite(loaded.heartbeat_interval)
