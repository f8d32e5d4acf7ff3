"""Days of the real handler in processes of its own, under faults of every kind at once."""
