"""Carries frames between processes: addresses, sockets, clock. Decides nothing about jobs."""
