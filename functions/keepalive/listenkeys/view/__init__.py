"""What people see: the status of every account, what to do about errors, and the page."""
