"""The plain handler, on the same accounts."""

import sys

from benchmarks.plain_handler import lambda_handler
from benchmarks.subjects.measure import measured


def main(accounts: int) -> None:
    with measured():
        extended = lambda_handler({}, None)["extended"]
    if extended != accounts:
        raise SystemExit(f"{extended} of {accounts} accounts were extended")


if __name__ == "__main__":
    main(int(sys.argv[1]))
