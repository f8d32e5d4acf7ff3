"""Almost every constant of time, in seconds unless the name says otherwise."""

from dataclasses import dataclass
from datetime import timedelta

NEVER, NOW = float("inf"), float("-inf")

# A key
LEASE_MINUTES = 60  # Binance's
AT_RISK_MINUTES = 15
AT_RISK = 60.0 * AT_RISK_MINUTES
LAST_RUN = 600.0  # a key that dies sooner may not live until a later run: this one tries as long as it can

# Who is due
FRESH = timedelta(minutes=5)  # renewed less than this ago: a duplicate or a retry, nothing to do
CLOCK_SLACK = timedelta(minutes=1)
LAST_TRY = timedelta(minutes=25)  # no try of an event comes later: the template's MaximumEventAgeInSeconds
# A REJECTED account without a live key: the sweep tries it once an hour, or nobody would while the tick is
# disabled. Sweeps are up to 8 minutes apart.
REJECTED_AGAIN = timedelta(minutes=52)

# A run
RESERVE = 30.0  # kept for the requests under way and for recording them
END_EARLY = 5.0  # before Lambda would end the run
LET_GO = 10.0  # after the run's deadline: a request has ended by then, or it hangs outside its timeouts
SECRETS_AGAIN = 5.0  # until secrets are read again, doubling
FLUSH = 1.0  # between two batches of records
FLUSH_PAUSE_CAP = 30.0  # between two tries while DynamoDB takes nothing

# Requests to Binance
BACKOFF_BASE, BACKOFF_CAP, PROBE_CAP = 0.5, 10.0, 30.0  # between the tries of an account, and of a host
EDGE = 1.0  # Binance may count what is sent in a minute's last second in the next one
CANNOT_WAIT = 120.0  # a key that dies sooner shares another run's minute

# Calls to AWS
AWS_CONNECT, AWS_READ = 2.0, 5.0
AT_ONCE = 1.0  # a call that has failed within this time may be tried again, where waiting is worse
COUNTER_KEPT = 3600  # a weight counter, until DynamoDB removes it

# Shards
SHARD_RETRY = 60  # until a shard that is not complete is tried again, as Lambda does with a tick
SHARD_STALE = 300  # from here on a sweep's shard is left to the next sweep, whose message is there, too


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Of a request to Binance: to connect (an address), for the next byte, and for the whole answer."""

    connect: float = 3.0
    read: float = 5.0
    total: float = 10.0
