"""Decides for the Router: queues, peers, leases, timers, dispatch. No sockets, clocks, threads or logging in here."""
