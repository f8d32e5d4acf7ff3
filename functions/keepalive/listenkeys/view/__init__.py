"""What people look at: the status of every account, what to do about trouble, and the page."""
