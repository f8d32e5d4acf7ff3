"""A month on a virtual clock."""
