"""listenKeys that the keeper keeps alive, for bots."""
