"""Never run: checked by mypy in `test_client_typing.py`.

A comment `# type is: T` states the revealed type, `# error: text` the complaint that must come. Any other one fails.
"""

from __future__ import annotations

from typing import reveal_type

from eventmq import JobHandle, adefer_job, defer_job, job


@job
def add(a: int, b: int = 2) -> int:
    return a + b


@job(queue="email", timeout="5m", priority=3)
async def send(to: str, *, retry: bool = False) -> bytes:
    return to.encode()


@job(unique="user:{user}", unique_scope="running", on_conflict="replace")
def only(user: int) -> int:
    return user


class Mailer:
    def __init__(self, host: str) -> None:
        self.host = host

    @job
    def deliver(self, to: str) -> bool:
        return True


def right() -> None:
    reveal_type(add(1, b=3))  # type is: int
    reveal_type(add.delay(1))  # type is: JobHandle[int]
    reveal_type(add.delay(1).result())  # type is: int
    reveal_type(add.delay(1).status)  # type is: str
    reveal_type(add.options(queue="slow", id="x").delay(1, b=2))  # type is: JobHandle[int]
    reveal_type(add.map([(1,), (2, 3)]))  # type is: JobHandles[int]
    reveal_type(add.map([(1,)]).results())  # type is: list[int]
    reveal_type(add.map([(1,)])[0])  # type is: JobHandle[int]
    reveal_type(send.delay("me", retry=True))  # type is: JobHandle[bytes]
    reveal_type(Mailer("mx").deliver("me"))  # type is: bool
    reveal_type(Mailer.deliver.options(class_args=("mx",)).delay("me"))  # type is: JobHandle[bool]
    reveal_type(only.options(unique_scope="waiting", on_conflict="raise").delay(1))  # type is: JobHandle[int]
    reveal_type(add.options(unique=True, unique_for="10m").delay(1).created)  # type is: bool
    reveal_type(add.options(debounce=30).delay(1))  # type is: JobHandle[int]
    reveal_type(defer_job("a.b", (1,), queue="q"))  # type is: JobHandle[Any]
    handle: JobHandle[int] = JobHandle("an-id")
    text: str = handle
    reveal_type(handle.result(timeout=None))  # type is: int
    print(text)


async def right_in_asyncio() -> None:
    reveal_type(await send("me"))  # type is: bytes
    reveal_type(await send.adelay("me"))  # type is: JobHandle[bytes]
    reveal_type(await (await send.adelay("me")).aresult())  # type is: bytes
    reveal_type(await add.options(priority=5).adelay(1))  # type is: JobHandle[int]
    reveal_type(await (await add.amap([(1,)])).aresults())  # type is: list[int]
    reveal_type(await adefer_job(add, (1,)))  # type is: JobHandle[Any]


def wrong() -> None:
    add.delay("1")  # error: incompatible type "str"; expected "int"
    add.delay()  # error: Missing positional argument "a"
    add.delay(1, c=2)  # error: Unexpected keyword argument "c"
    add.options(queue="slow").delay("1")  # error: incompatible type "str"; expected "int"
    send.delay(5)  # error: incompatible type "int"; expected "str"
    send.delay("me", True)  # error: Too many positional arguments
    Mailer.deliver.delay(5)  # error: incompatible type "int"; expected "str"
    add.options(tries=3)  # error: Unexpected keyword argument "tries"
    add.options(unique=5)  # error: incompatible type "int"; expected "str | bool | None"
    add.options(unique=True, on_conflict="ignore")  # error: expected "Literal['existing', 'replace', 'raise'] | None"
    add.options(queue=5)  # error: incompatible type "int"; expected "str"
    text: str = add.delay(1).result()  # error: expression has type "int", variable has type "str"
    print(text)


@job(tries=3)  # error: Unexpected keyword argument "tries"
def never() -> None: ...
