"""The function: handler and all, on the clients that it makes for itself."""

import argparse
import contextlib
import io
import json

from benchmarks.subjects.measure import measured
from local.invoke import Context

TICK = {"source": "aws.events", "detail-type": "Scheduled Event"}
SWEEP = {"overdueOnly": True}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("accounts", type=int)
    parser.add_argument("--unpaced", action="store_true", help="lift the weight budget, which would wait")
    parser.add_argument("--sweep", action="store_true", help="a sweep, which finds nothing to do")
    arguments = parser.parse_args()
    import app

    if arguments.unpaced:
        app.keeper.budget._caps = dict.fromkeys(app.keeper.budget._caps, 1_000_000)
    log = io.StringIO()
    with measured() as found, contextlib.redirect_stdout(log):
        for handler in app.logger.handlers:
            handler.setStream(log)
        report = app.lambda_handler(SWEEP if arguments.sweep else TICK, Context(remaining_seconds=900))
        found["log_bytes"] = len(log.getvalue())
        found["metrics"] = len(
            json.loads(log.getvalue().splitlines()[-1])["_aws"]["CloudWatchMetrics"][0]["Metrics"]
        )
    if report["skipped" if arguments.sweep else "extended"] != arguments.accounts:
        raise SystemExit(f"not what was expected of every account: {report}")


if __name__ == "__main__":
    main()
