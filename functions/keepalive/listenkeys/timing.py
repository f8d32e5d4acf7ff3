"""Almost every constant of time, in seconds unless the name says otherwise."""

from dataclasses import dataclass
from datetime import timedelta

NEVER, NOW = float("inf"), float("-inf")

# A key
LEASE_MINUTES = 60  # how long Binance keeps a listenKey
AT_RISK_MINUTES = 15
AT_RISK = 60.0 * AT_RISK_MINUTES
LAST_RUN = 600.0  # a key that dies sooner may not live until a later run, so this run tries as long as it can

# Who is due
FRESH = timedelta(minutes=5)  # renewed less than this ago: a duplicate or a retry, nothing to do
CLOCK_SLACK = timedelta(minutes=1)
LAST_TRY = timedelta(minutes=25)  # the last retry of an event: the template's MaximumEventAgeInSeconds
# For a REJECTED account without a live key: once an hour, less the 8 minutes that sweeps may be apart.
REJECTED_AGAIN = timedelta(minutes=52)

# A run
RESERVE = 30.0  # at a run's end, to finish the requests under way and record them
END_EARLY = 5.0  # AWS calls must end this long before Lambda would end the run
LET_GO = 10.0  # after the deadline; a request that is still under way then hangs outside its timeouts
SECRETS_AGAIN = 5.0  # until unreadable secrets are read again, doubling
FLUSH = 1.0  # between two batches of records
FLUSH_PAUSE_CAP = 30.0  # at most, between two tries while DynamoDB accepts nothing

# Requests to Binance
BACKOFF_BASE, BACKOFF_CAP, PROBE_CAP = 0.5, 10.0, 30.0  # between the tries of an account, and of a host
EDGE = 1.0  # Binance may count what is sent in a minute's last second in the next one
CANNOT_WAIT = 120.0  # a key that dies sooner is renewed even in another run's minute

# Calls to AWS
AWS_CONNECT, AWS_READ = 2.0, 5.0
AT_ONCE = 1.0  # a call that must not wait long is retried only if it failed within this time
COUNTER_KEPT = 3600  # a weight counter expires this long after its minute

SHARD_RETRY = 60  # until an incomplete shard is retried; Lambda retries a tick after the same time
SHARD_STALE = 300  # older messages of a sweep are dropped: those of the next one are there by then


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits of a request to Binance: to connect (per address), for the next byte, for the whole answer."""

    connect: float = 3.0
    read: float = 5.0
    total: float = 10.0
