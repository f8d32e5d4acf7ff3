"""Measures what a run costs, compared with a plain handler, other clients and the floor. See README.md."""
