"""A web server's way of life: a process uses the client, forks its servers, and all of them use it at once."""

from __future__ import annotations

import sys

from .processes import System, each_once

PREFORK = """
import os, sys, threading
import eventmq
from system_jobs import note
frontend, journal, ids = sys.argv[1:]
eventmq.configure(broker_addr=frontend, enqueue_timeout=20)

def work():
    handles = [note.delay(journal) for _ in range(20)] + note.map([(journal,)] * 100)
    assert [handle.result(20) for handle in handles] == [1] * 120
    with open(ids, "a") as file:
        file.write("\\n".join(handles) + "\\n")

def wait():  # a thread of the parent leads the conversation while it forks
    while not stopped.is_set():
        note.delay(other).result(20)

other = journal + "-of-a-thread"
open(other, "x")
stopped = threading.Event()
work()
thread = threading.Thread(target=wait)
thread.start()
children = []
for _ in range(4):
    pid = os.fork()
    if not pid:
        try:
            work()
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    children.append(pid)
work()
codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
stopped.set()
thread.join()
sys.exit(any(codes))
"""


def test_forked_children_enqueue_beside_their_parent(system: System) -> None:
    system.start_router()
    system.start_manager(workers=2)
    journal, ids = system.journal(), system.folder / "ids"
    parent = system.start("parent", [sys.executable, "-c", PREFORK, system.frontend, str(journal), str(ids)])
    assert parent.wait(30) == 0, parent.log
    handles = ids.read_text().split()
    assert len(handles) == len(set(handles)) == 6 * 120
    each_once(journal, handles)
