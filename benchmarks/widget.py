"""Measures the dashboard's widget with many accounts and the share of a processor that it has in Lambda.

`python -m benchmarks.widget` starts the handler in a process of its own. A control group limits its CPU. The
handler is called as CloudWatch would, once cold, then warm. It needs root and the cpu controller of cgroup v1
or v2.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.responders import responders
from benchmarks.run import template_environment
from benchmarks.share import FULL, share

ROOT = Path(__file__).parent.parent
MEMORY = 512  # MB: WidgetFunction's
_CALL = """
import json, os, sys, time
with open(sys.argv[1], "w") as group:
    group.write(str(os.getpid()))
started = time.monotonic()
import widget
loaded = time.monotonic()
took = []
for _ in range(4):
    began = time.monotonic()
    html = widget.handler({"renew": "arn:aws:lambda:eu-west-1:123456789012:function:" + "f" * 64}, None)
    took.append(time.monotonic() - began)
size = len(html.encode()) / 1000
print(json.dumps({"init": loaded - started, "cold": took[0], "warm": min(took[1:]), "kb": size}))
"""


def measure(accounts: int, memory: int) -> dict[str, float]:
    """Return seconds of INIT, of the first call and of the fastest later one, and the answer's size in kB."""
    with responders(accounts) as up, share(memory) as processes:
        environment = {
            **os.environ,
            **template_environment(),
            "AWS_ENDPOINT_URL": up.aws_url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_REGION": "eu-west-1",
            "AWS_DEFAULT_REGION": "eu-west-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "no_proxy": "127.0.0.1",
            **up.variables,
            "PYTHONPATH": str(ROOT / "functions/keepalive"),
        }
        command = [sys.executable, "-c", _CALL, processes]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("accounts", type=int, nargs="?", default=10_000)
    parser.add_argument("--memory", type=int, default=MEMORY, help="MB of memory, and with it the share")
    arguments = parser.parse_args()
    found = measure(arguments.accounts, arguments.memory)
    print(
        f"{arguments.accounts:,} accounts, {arguments.memory} MB, {arguments.memory / FULL:.2f} processors: "
        f"INIT {found['init']:.1f} s, first call {found['cold']:.1f} s, later {found['warm']:.1f} s, "
        f"{found['kb']:.0f} kB"
    )


if __name__ == "__main__":
    main()
