"""AWS's list prices in Tokyo (ap-northeast-1), in US dollars, and what an account gets free each month.

(1) As public documents quoted them between July and September 2026 from the AWS Price List, by usage type
(APN1-...). (2) The same in each region for which AWS publishes one. (3) Not found in writing: the price in
us-east-1, raised in proportion to Tokyo's price for storage. We did not read the prices from AWS: check them
with `aws pricing get-products` or on the pricing pages before you rely on them.

Free is what AWS calls "always free" (https://aws.amazon.com/free/): it does not end after a year. It applies
to the account as a whole, in all regions together, and something else in the account may have used it.
"""

from dataclasses import dataclass

PRICES_OF = "2026-09"


@dataclass(frozen=True, slots=True)
class Price:
    """The dollars per unit, and the units per month that are always free."""

    dollars: float
    free: float = 0.0

    def of(self, units: float, free_tier: bool = False) -> float:
        """Return the dollars for so many units in a month."""
        return max(0.0, units - (self.free if free_tier else 0.0)) * self.dollars


LAMBDA_GB_SECOND = Price(0.0000133334, 400_000)  # arm64 (1)
LAMBDA_REQUEST = Price(0.20e-6, 1_000_000)  # (1)
# DynamoDB's free requests are only for provisioned mode; these tables are on demand.
WRITE_UNIT, READ_UNIT = Price(0.715e-6), Price(0.1425e-6)  # (1)
TABLE_GB, BACKUP_GB = Price(0.285, 25), Price(0.228)  # a month (1), point-in-time recovery (3)
SECRET, SECRETS_CALL = Price(0.40), Price(0.05 / 10_000)  # (1), (2)
LOG_GB, LOG_GB_KEPT = Price(0.76, 5), Price(0.033, 5)  # ingested, stored for a month (1)
METRIC, ALARM_METRIC, DASHBOARD = Price(0.30, 10), Price(0.10, 10), Price(3.00, 3)  # (1), (1), (2)
QUEUE_REQUEST = Price(0.40e-6, 1_000_000)  # (1)
KMS_KEY, KMS_REQUEST = Price(1.00), Price(0.03 / 10_000, 20_000)  # (1)
NAT_HOUR, NAT_GB, ADDRESS_HOUR = Price(0.062), Price(0.062), Price(0.005)  # (1)
GB_OUT = Price(0.114, 100)  # to the internet (1)
