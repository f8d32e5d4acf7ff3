"""Runs the real handler in its own processes for simulated days, under faults of every kind at once."""
