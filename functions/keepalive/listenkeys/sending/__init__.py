"""Sending: one thread decides who may send and when; the pool's threads send, take weight and record."""
