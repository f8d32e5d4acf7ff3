"""Simulates a month of outages on a virtual clock, for this program and for the loops that it replaces."""
