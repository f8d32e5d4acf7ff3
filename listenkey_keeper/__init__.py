"""What operators and bots install."""
