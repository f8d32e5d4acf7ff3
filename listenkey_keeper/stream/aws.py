"""The boto3 clients that the library makes for itself."""

import os
from typing import Any

import boto3
from botocore.config import Config

# Of calls that a bot waits for, or whose answer is of no use later.
QUICK = Config(
    connect_timeout=2,
    read_timeout=3,
    retries={"mode": "standard", "total_max_attempts": 2},
    parameter_validation=False,
)


def client(service: str, config: Config = QUICK, region: str | None = None) -> Any:
    """Return a client of boto3's default session, in the region given or the one that AWS_REGION names.

    boto3 itself reads AWS_DEFAULT_REGION alone. Raises NoRegionError where nothing names a region.
    """
    return boto3.client(service, region_name=region or os.environ.get("AWS_REGION"), config=config)
