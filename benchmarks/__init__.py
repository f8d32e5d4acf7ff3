"""What a run costs, measured against a plain handler, the peers and the floor. See README.md."""
