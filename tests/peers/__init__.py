"""EventMQ 0.3.13, the release of 2020, as a peer: real processes of both releases on the same wire.

The old release is a black box here: it is installed, run and watched, never imported by these tests or read.
"""
