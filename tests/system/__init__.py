"""Proofs of the promises with real processes: a Router, job managers and clients that are killed, flooded and moved."""
