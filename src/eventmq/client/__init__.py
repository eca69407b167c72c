"""Talks to the Router for user code: what a job is, how it is enqueued, how its outcome comes back.

`jobs` is what user code and worker processes import; it loads no ZeroMQ. `exchange` decides (messages, resends,
deadlines; no IO); `sync` and `aio` carry what it decides; `client` and `default` tie them to an address.
"""
