"""The operator's command: what the accounts' listenKeys are doing, from a terminal."""
