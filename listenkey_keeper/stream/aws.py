"""The boto3 clients that the library makes when the caller passes none."""

import os
from typing import Any

import boto3
from botocore.config import Config

# For calls that a bot waits for, or whose answer is useless if it comes late.
QUICK = Config(
    connect_timeout=2,
    read_timeout=3,
    retries={"mode": "standard", "total_max_attempts": 2},
    parameter_validation=False,
)


def client(service: str, config: Config = QUICK, region: str | None = None) -> Any:
    """Return a client of boto3's default session for `region`, or else for the region in AWS_REGION.

    boto3 itself ignores AWS_REGION. If neither is given, it uses AWS_DEFAULT_REGION or the profile. Raises
    NoRegionError if none of these names a region.
    """
    return boto3.client(service, region_name=region or os.environ.get("AWS_REGION"), config=config)
