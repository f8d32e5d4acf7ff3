"""`python -m listenkey_keeper.cli`: the command `listenkeys`."""

from . import main

main()
