"""Sends requests. One thread decides which account goes next and when; the pool's threads do the I/O."""
