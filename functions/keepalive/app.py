"""The handlers: an event comes in, a run is done, its report goes out. The only file that logs and counts."""

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import boto3
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

from listenkeys.accounts import Accounts
from listenkeys.announcements import Announcer
from listenkeys.aws import CLIENT_CONFIG
from listenkeys.binance import BinanceClient
from listenkeys.credentials import Credentials
from listenkeys.errors import KeepaliveIncomplete
from listenkeys.keeper import Keeper
from listenkeys.pacing import Clock
from listenkeys.records import Records
from listenkeys.report import SUCCESSES, Outcome, Report
from listenkeys.settings import Settings
from listenkeys.trigger import MANUAL, TICK, Trigger

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

logger = Logger()
metrics = Metrics()


def build_keeper(settings: Settings, clock: Clock) -> Keeper:
    """Make the clients, once for all runs of this environment."""
    dynamodb = boto3.client("dynamodb", config=CLIENT_CONFIG)
    return Keeper(
        accounts=Accounts(dynamodb, settings.accounts_table, settings.secret_prefix, clock.sleep),
        credentials=Credentials(boto3.client("secretsmanager", config=CLIENT_CONFIG)),
        binance=BinanceClient(clock.now, settings.binance_base_url, pool_size=settings.max_concurrency),
        records=Records(
            dynamodb, settings.listen_keys_table, settings.ledger_mode, settings.ledger_days, clock.sleep
        ),
        announcer=Announcer(boto3.client("events", config=CLIENT_CONFIG)),
        clock=clock,
        overdue=timedelta(minutes=settings.overdue_minutes),
        max_concurrency=settings.max_concurrency,
        max_weight_per_minute=settings.max_weight_per_minute,
    )


keeper = build_keeper(Settings.from_env(), Clock(lambda: datetime.now(UTC), time.monotonic, time.sleep))


@logger.inject_lambda_context
def lambda_handler(event: dict[str, Any], context: "LambdaContext") -> dict[str, Any]:
    """Keep the listenKeys alive that are due.

    Raises InvalidEvent for an event that is not documented, and KeepaliveIncomplete when a tick leaves
    something worth another try, or any run could not read its accounts.
    """
    trigger = Trigger.from_event(event)
    report = keeper.run(trigger, context.aws_request_id, context.get_remaining_time_in_millis() / 1000)
    tell(report)
    incomplete = report.incomplete()
    if incomplete and (trigger.name == TICK or report.accounts_unread) and not trigger.dry_run:
        raise KeepaliveIncomplete(incomplete)
    return report.to_dict()


def tell(report: Report) -> None:
    """Log the run in one line, and one for each account that did not simply extend; count for the alarms."""
    summary = report.to_dict()
    del summary["problems"]
    summary.pop("plan", None)
    incomplete = report.incomplete()
    (logger.error if incomplete else logger.info)("run", report=summary, incomplete=incomplete)
    for warning in report.warnings:
        logger.warning("secret", warning=warning)
    for result in report.results:
        if result.attempted and result.outcome not in (Outcome.EXTENDED, Outcome.SKIPPED):
            log = logger.info if result.outcome in SUCCESSES else logger.error
            log("account", product=result.product or None, **result.as_problem())
    if report.trigger == MANUAL or report.accounts_unread:
        return  # neither says that the rules run
    counts = report.count()
    metrics.add_metric("RunsCompleted", MetricUnit.Count, 1)
    for outcome in Outcome:
        if outcome is not Outcome.SKIPPED:
            metrics.add_metric(f"Keys{outcome.capitalize()}", MetricUnit.Count, counts[outcome])
    if report.min_remaining_seconds is not None:
        metrics.add_metric("MinRemainingSeconds", MetricUnit.Seconds, report.min_remaining_seconds)
    metrics.add_metric("UsedWeight", MetricUnit.Count, report.used_weight)
    metrics.add_metric("RunDuration", MetricUnit.Milliseconds, report.duration_ms)
    metrics.flush_metrics()  # here, not in a decorator: it would complain of the runs that count nothing
