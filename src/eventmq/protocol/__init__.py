"""Bytes to messages and back, for eMQP/1.0 and eMQP/2.0. No state, no IO. The grammar: `docs/protocol.md`."""
