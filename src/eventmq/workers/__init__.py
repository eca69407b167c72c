"""Runs user code: the worker processes, what a job manager decides about them, and the steps of one job."""
