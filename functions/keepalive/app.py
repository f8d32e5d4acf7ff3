"""The handlers: read an event, do a run, log its report and emit its metrics."""

import json
import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

from listenkeys.aws.accounts import Accounts
from listenkeys.aws.announcements import Announcer
from listenkeys.aws.clients import Deadline, client
from listenkeys.aws.counter import WeightCounter
from listenkeys.aws.credentials import Credentials
from listenkeys.aws.records import Records
from listenkeys.aws.shards import Shard, WorkQueue
from listenkeys.binance.client import BinanceClient
from listenkeys.clock import SYSTEM_CLOCK, Clock
from listenkeys.errors import KeepaliveIncomplete
from listenkeys.keeper import Keeper
from listenkeys.model import SUCCESSES, Outcome
from listenkeys.report import Report
from listenkeys.sending.weight import Budget
from listenkeys.settings import Settings
from listenkeys.timing import SHARD_RETRY, SHARD_STALE
from listenkeys.trigger import SWEEP, TICK, Trigger

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

# At DEBUG botocore logs what it sends and gets, keys and secrets too; at INFO each cold start.
logging.getLogger("botocore").setLevel(logging.WARNING)

logger = Logger()
# The program uses the standard library's logging; its lines come out in the same format.
logging.getLogger("listenkeys").handlers = logger.handlers
logging.getLogger("listenkeys").setLevel(logger.log_level)
metrics = Metrics()


class Lazy:
    """A proxy that calls `make` on first use. Most runs are sweeps with nothing to do and never need it."""

    # One lock for all: boto3 can make only one client at a time, and any thread may be the first to ask.
    _making = threading.Lock()

    def __init__(self, make: Callable[[], object]) -> None:
        self._make = cache(make)

    def __getattr__(self, name: str) -> Any:
        with self._making:
            self.__dict__[name] = getattr(self._make(), name)  # from now on without the lock
        return self.__dict__[name]


def build(
    settings: Settings, clock: Clock, lazy: Callable[[Callable[[], object]], Any] = Lazy
) -> tuple[Keeper, WorkQueue | None]:
    """Create what all runs share. The queue is None if one function does all the work."""
    deadline = Deadline(clock.monotonic)
    dynamodb = client("dynamodb", deadline)
    table, ledger = settings.listen_keys_table, settings.ledger_table
    url, streams = settings.binance_base_url, settings.binance_stream_url
    keeper = Keeper(
        accounts=Accounts(dynamodb, settings.accounts_table, settings.secret_prefix, clock.sleep),
        credentials=Credentials(lazy(partial(client, "secretsmanager", deadline))),
        binance=lazy(lambda: BinanceClient(clock.now, url, None, settings.max_concurrency, streams)),
        records=Records(dynamodb, table, ledger, settings.ledger_mode, settings.ledger_days, clock.sleep),
        announcer=Announcer(
            lazy(partial(client, "events", deadline)), table, heartbeat=bool(settings.heartbeat_secret_id)
        ),
        budget=Budget(WeightCounter(dynamodb, ledger, deadline), settings.max_weight_per_minute, clock),
        clock=clock,
        overdue=lambda minutes: timedelta(minutes=settings.overdue_after(minutes)),
        max_concurrency=settings.max_concurrency,
        aws_deadline=deadline,
    )
    if not settings.work_queue_url:
        return keeper, None
    sqs = lazy(partial(client, "sqs", Deadline(clock.monotonic)))
    return keeper, WorkQueue(sqs, settings.work_queue_url, settings.shard_count)


keeper, work_queue = build(Settings.from_env(), SYSTEM_CLOCK)


@logger.inject_lambda_context
def lambda_handler(event: dict[str, Any], context: "LambdaContext") -> dict[str, Any]:
    """Keep alive the listenKeys that are due; with shards, send a message for each shard.

    Raises InvalidEvent for an event that is not documented, KeepaliveIncomplete when a tick leaves
    something worth another try or any run could not read its accounts, and Unavailable when not all
    messages went out.
    """
    trigger = Trigger.from_event(event)
    if work_queue and trigger.scheduled:
        shards = work_queue.send(context.aws_request_id, trigger.name)
        sent = {"runId": context.aws_request_id, "trigger": trigger.name, "shards": shards}
        logger.info("shards", sent=sent)
        return sent
    return run(trigger, context.aws_request_id, context)


@logger.inject_lambda_context
def shard_handler(event: dict[str, Any], context: "LambdaContext") -> dict[str, Any]:
    """Keep the listenKeys of one shard alive. An incomplete shard is tried again after a minute.

    Any other error is raised: Lambda counts it, and CrashedShardsAlarm uses that count.
    """
    [record] = event["Records"]  # the template asks for one message at a time
    try:
        shard = Shard(**json.loads(record["body"]))
        age = keeper.clock.now().timestamp() - int(record["attributes"]["SentTimestamp"]) / 1000
        if shard.trigger == SWEEP and age > SHARD_STALE:
            logger.warning("a later sweep has superseded this shard", shard=record["body"])
        else:
            run(Trigger(shard.trigger), shard.run_id, context, shard)
    except Exception as error:
        if work_queue:
            work_queue.retry(record["receiptHandle"], SHARD_RETRY)
        if not isinstance(error, KeepaliveIncomplete):
            raise
        return {"batchItemFailures": [{"itemIdentifier": record["messageId"]}]}
    return {"batchItemFailures": []}


def run(
    trigger: Trigger, run_id: str, context: "LambdaContext", shard: Shard | None = None
) -> dict[str, Any]:
    """Do a run, log it, emit its metrics and return the report, or raise as `lambda_handler` says."""
    report = keeper.run(trigger, run_id, context.get_remaining_time_in_millis() / 1000, shard)
    publish(report, shard)
    incomplete = report.incomplete()
    if incomplete and (trigger.name == TICK or report.accounts_unread):
        raise KeepaliveIncomplete(incomplete)
    return report.to_dict()


def publish(report: Report, shard: Shard | None = None) -> None:
    """Log the run in one line and each account that was not just extended in another; emit the metrics."""
    summary = {name: value for name, value in report.to_dict().items() if name not in ("problems", "plan")}
    if shard:
        summary["shard"] = f"{shard.segment} of {shard.total}"
    incomplete = report.incomplete()
    (logger.error if incomplete else logger.info)("run", report=summary, incomplete=incomplete)
    for warning in report.warnings:
        logger.warning("secret", warning=warning)
    for result in report.results:
        if result.to_record and result.outcome not in (Outcome.EXTENDED, Outcome.SKIPPED):
            log = logger.info if result.outcome in SUCCESSES else logger.error
            log("account", product=result.product or None, **result.as_problem())
    if report.trigger not in (TICK, SWEEP) or report.accounts_unread:
        return  # such a run does not show that the rules work
    if not report.trouble:  # MissedRunsAlarm has to see a stack that can't record or announce
        metrics.add_metric("SweepsCompleted", MetricUnit.Count, int(report.trigger == SWEEP))
        metrics.add_metric("TicksCompleted", MetricUnit.Count, int(report.trigger == TICK))
    counts = report.count()
    # CloudWatch's free tier has ten custom metrics, so one counts the new keys of all kinds.
    changed = counts[Outcome.CHANGED] + counts[Outcome.CREATED] + counts[Outcome.RECREATED]
    metrics.add_metric("KeysChanged", MetricUnit.Count, changed)
    for outcome in (Outcome.EXTENDED, Outcome.FAILED, Outcome.DEFERRED, Outcome.REJECTED):
        metrics.add_metric(f"Keys{outcome.capitalize()}", MetricUnit.Count, counts[outcome])
    # Even if it is 0: KeyAtRiskAlarm must clear, whatever happened to the last account at risk.
    metrics.add_metric("KeysAtRisk", MetricUnit.Count, report.keys_at_risk)
    if report.min_remaining_seconds is not None:
        metrics.add_metric("MinRemainingSeconds", MetricUnit.Seconds, report.min_remaining_seconds)
    metrics.add_metric("UsedWeight", MetricUnit.Count, report.used_weight)
    metrics.flush_metrics()  # the decorator would warn of runs without metrics
