"""Two small services that complement moto: Lambda's Invoke, and the controls of the Binance stand-in.

`python -m local.front revoke ACCOUNT` uses the controls of the running local environment.
"""

from __future__ import annotations

import json
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any, NoReturn

from listenkeys.aws.accounts import Accounts
from listenkeys.aws.credentials import ApiKey, Credentials
from listenkeys.errors import ErrorCode
from listenkeys.products import ENDPOINTS
from local.aws.rules import error_payload
from local.binance.exchange import Fault
from local.invoke import Invocation
from local.running import running_world
from local.service import Service
from local.world import World

CONTROLS = "LOCAL_CONTROLS"
# Each command with its help text and what it prints when it is done.
VERBS = {
    "revoke": ("refuses the account's API key", "Binance no longer knows ACCOUNT's API key"),
    "restore": ("accepts the account's API key again", "Binance accepts ACCOUNT's API key"),
    "forget": ("forgets the account's listenKey", "Binance has forgotten ACCOUNT's listenKey"),
    "delete": (
        "ends the account's listenKey, as another program does that sends DELETE",
        "ACCOUNT's listenKey has ended, as if another program had sent DELETE",
    ),
    "newkey": ("accepts another API key of the account too, and says which", ""),
    "order": ("places an order: the account's streams get its events", ""),
    "fill": ("fills the account's latest order", ""),
    "drop": ("cuts every websocket", "every websocket was cut"),
    "down": ("answers every request with 503, or with STATUS", ""),
    "up": ("answers again", "Binance answers again"),
}
_FOR_ALL = ("drop", "down", "up")
_FILLED = {"x": "TRADE", "X": "FILLED", "l": "0.001", "z": "0.001", "L": "9000", "ap": "9000"}
_STATUSES = ("403", "418", "429", "451", "500", "503")
_INVOKE = re.compile(r"/2015-03-31/functions/(?:arn:[^/]*:function:)?([^/:]+)(?::[^/]*)?/invocations")


class Controls:
    """Changes how the stand-in treats an account. Takes account ids, because nobody remembers API keys."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._outage: Fault | None = None
        self._new_keys = 0

    def do(self, verb: str, account_id: str) -> str:
        """Change the stand-in and return in one line what changed. Raises ValueError with one line.

        `down` takes an HTTP status in place of the account; anything else counts as 503, because the page
        sends the account that is chosen there.
        """
        if not self._world.binance:
            raise ValueError("this environment uses the real Binance: there is no stand-in to change")
        exchange = self._world.exchange
        if verb in ("down", "up") and self._outage:
            self._outage.clear()
            self._outage = None
        if verb == "down":
            status = account_id if account_id in _STATUSES else "503"
            self._outage = exchange.fault(status=int(status))
            return f"Binance answers every request with {status}"
        if verb == "drop" and self._world.streams:
            self._world.streams.drop_connections()
        if verb in _FOR_ALL:
            return VERBS[verb][1]
        if verb not in VERBS:
            raise ValueError(f"there is no command {verb}")
        if not account_id:
            raise ValueError(f"{verb} needs an account, such as alice")
        product, key = self._key_of(account_id)
        if verb == "revoke":
            exchange.revoke(key)
        elif verb == "restore":
            exchange.add_account(key)
        elif verb == "newkey":
            self._new_keys += 1
            new = f"newkey{self._new_keys:04}"
            exchange.add_api_key(new, key)
            return f"{account_id} has another API key: {new}"
        elif verb in ("order", "fill") and product == "portfolio-pro":
            raise ValueError("the stream of portfolio-pro has no orders: add the account as usdm too")
        elif verb in ("order", "fill"):
            live = exchange.live_key(key, product)
            hear = exchange.listeners(live or "")
            if verb == "order":
                said = f"{account_id} has order {exchange.emit_order(key, product)}"
            elif numbers := exchange.orders(key, product):
                exchange.emit_order(key, product, i=numbers[-1], **_FILLED)
                said = f"order {numbers[-1]} of {account_id} is filled"
            else:
                raise ValueError(f"{account_id} has no order: `.local/binance order {account_id}` places one")
            said += f": {hear} stream{'s' * (hear != 1)} received it"
            if not live:
                renew = f"`.local/listenkeys renew --force {account_id}`"
                said += f" ({account_id} has no live listenKey: {renew} makes one)"
            return said
        elif verb == "delete":
            exchange.handle("DELETE", ENDPOINTS[product].path, {"X-MBX-APIKEY": key})
        else:
            exchange.expire(key, product)
        return VERBS[verb][1].replace("ACCOUNT", account_id)

    def _key_of(self, account_id: str) -> tuple[str, str]:
        aws = self._world.aws
        table, prefix = aws.outputs["AccountsTableName"], aws.outputs["SecretPrefix"]
        accounts = Accounts(aws.client("dynamodb"), table, prefix, lambda _: None)
        [account] = accounts.named([account_id]) if len(account_id) <= 64 else [None]
        if account is None or (account.problem and account.problem.code == ErrorCode.ACCOUNT_NOT_FOUND):
            raise ValueError(
                f"there is no account {account_id}: `.local/listenkeys accounts list` shows the accounts"
            )
        if account.problem:
            raise ValueError(f"{account_id}: {account.problem.message}")
        key = Credentials(aws.client("secretsmanager")).fetch([account]).keys[account.id]
        if not isinstance(key, ApiKey):
            raise ValueError(f"{account_id}: {key.message}")
        return account.product, key.value


class Front(Service):
    """Serves Invoke and the controls at a free port of 127.0.0.1 until `stop`.

    `function` is the name of the function. `invoke` runs it for a synchronous invocation, and `send` for an
    asynchronous one.
    """

    def __init__(
        self,
        function: str,
        invoke: Callable[[Any], Invocation],
        send: Callable[[Any], None],
        controls: Controls,
    ) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                path = self.path.partition("?")[0]
                if found := _INVOKE.fullmatch(path):
                    self._invoke(found[1], body)
                elif path.startswith("/controls/"):
                    try:
                        words = map(urllib.parse.unquote, f"{path}/".split("/")[2:4])
                        self._answer(200, {"done": controls.do(*words)})
                    except ValueError as error:
                        self._answer(400, {"error": str(error)})
                else:
                    self._answer(501, {"message": "the local environment supports Invoke only"})

            def _invoke(self, name: str, body: bytes) -> None:
                if name != function:
                    self._refuse(404, "ResourceNotFoundException", f"Function not found: {name}")
                    return
                try:
                    event = json.loads(body or b"{}")
                except ValueError:
                    self._refuse(400, "InvalidRequestContentException", "the payload is not JSON")
                    return
                kind = self.headers.get("X-Amz-Invocation-Type") or "RequestResponse"
                if kind == "RequestResponse":
                    done = invoke(event)
                    if done.error is None:
                        self._answer(200, done.report)
                    else:
                        self._answer(200, error_payload(done.error), {"X-Amz-Function-Error": "Unhandled"})
                    return
                if kind == "Event":
                    send(event)
                self._answer(202 if kind == "Event" else 204, None)

            def _refuse(self, status: int, kind: str, message: str) -> None:
                self._answer(status, {"Type": "User", "Message": message}, {"x-amzn-ErrorType": kind})

            def _answer(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
                body = b"" if content is None else json.dumps(content).encode()
                self.send_response(status)
                headers = {
                    "Content-Type": "application/json",
                    "X-Amz-Executed-Version": "$LATEST",
                    **(headers or {}),
                }
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        super().__init__(Handler)


def usage() -> str:
    """Return the help of .local/binance."""
    lines = [
        "usage: .local/binance COMMAND [ACCOUNT]",
        "",
        "Controls the Binance stand-in of `make up`. The stand-in then:",
        "",
    ]
    for verb, (does, _) in VERBS.items():
        typed = f"{verb} ACCOUNT"
        if verb in _FOR_ALL:
            typed = "down [STATUS]" if verb == "down" else verb
        lines.append(f"  {typed:<16} {does}")
    lines += [
        "",
        "STATUS is 403 (its firewall), 418 (a ban), 429 (the rate limit), 451 (a region it does not serve),",
        "500 or 503 (an outage). `make up` prints each run, and the account messages that AWS would send.",
    ]
    return "\n".join([*lines, "", "Examples: .local/binance revoke alice; .local/binance down 418"])


def main() -> None:
    verb, account, *more = [*sys.argv[1:], "", ""]
    if verb in ("", "help") or {"-h", "--help"} & set(sys.argv):
        print(usage())
        raise SystemExit(0 if verb else 2)
    wrong = ""
    if verb not in VERBS:
        wrong = f"there is no command {verb}"
    elif verb == "down" and (any(more) or account not in ("", *_STATUSES)):
        wrong = f"down takes nothing, or one of {', '.join(_STATUSES)}"
    elif verb in ("drop", "up") and account:
        wrong = f"{verb} takes no account"
    elif verb not in _FOR_ALL and (not account or any(more)):
        wrong = f"{verb} needs one account, such as `.local/binance {verb} alice`"
    if wrong:
        _fail(f"{wrong} (see `.local/binance --help`)")
    found = running_world()
    if not found or CONTROLS not in found["environment"]:
        _fail("no local environment is running: start one with `make up`")
    quoted = urllib.parse.quote(account, safe="", errors="replace")
    url = f"{found['environment'][CONTROLS]}/controls/{verb}/{quoted}"
    # Without a proxy: the service is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, method="POST"), timeout=10) as answer:
            print(json.load(answer)["done"])
    except urllib.error.HTTPError as error:
        _fail(json.load(error)["error"])
    except OSError:
        _fail("the local environment does not answer: stop it with `make down`, then start it again")


def _fail(said: str) -> NoReturn:
    print(said, file=sys.stderr)
    raise SystemExit(2)  # as `listenkeys` ends


if __name__ == "__main__":
    main()
