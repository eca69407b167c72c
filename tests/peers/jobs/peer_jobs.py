"""Jobs that both releases can run. Each leaves a line in the file $PEER_MARKS, so a test can count what ran where.

Imported by workers of either release, so it knows nothing of the tests; `hold` runs until the file $PEER_GO exists.
"""

import os
import time

from eventmq.client.jobs import job


def mark(word):
    line = f"{word} {os.getpid()}\n".encode()
    file = os.open(os.environ["PEER_MARKS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, line)
    os.close(file)


@job
def add(a, b):
    mark(f"add:{a}+{b}")
    return a + b


@job
def nothing():
    mark("nothing")


@job
def fail():
    raise ValueError("no luck")


@job
def hold(name):
    mark(f"hold:{name}")
    while not os.path.exists(os.environ["PEER_GO"]):
        time.sleep(0.02)
    return name


class Greeter:
    def __init__(self, greeting="hello"):
        self.greeting = greeting

    @job
    def greet(self, name):
        return f"{self.greeting} {name}"
