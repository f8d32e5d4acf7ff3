"""AWS: the tables, the secrets, the event bus and the queue."""
