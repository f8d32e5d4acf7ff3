"""What to do about an error: one table for the page, the terminal, the events and the docs."""

from ..errors import ErrorCode

_WAIT = "wait, each sweep tries again; if it lasts 10 minutes, check Binance's status page"
_ADDRESS = "each sweep tries again; if it lasts 10 minutes, see docs/alarms.md, Binance refuses the address"
_THEN = "then: listenkeys renew NAME"
# Options come before the name: after `--` they would not be read as options.
_REPLACE = f"listenkeys accounts add --replace NAME; {_THEN}"
REMEDIES: dict[str, str] = {
    ErrorCode.LISTEN_KEY_NOT_FOUND: (
        f"start the stream, or let runs create it: listenkeys accounts set --create-if-missing NAME; {_THEN}"
    ),
    ErrorCode.INVALID_API_KEY: (
        "check at Binance that the API key exists, has Enable Reading and allows the function's address (if "
        "all restricted API keys fail, that address has changed: docs/alarms.md, INVALID_API_KEY); check "
        "that you stored the API key, not its secret (code -2014: it is mistyped or cut short); if all are "
        f"right, turn on Enable Futures (or the product's own); to enter an API key: {_REPLACE}"
    ),
    ErrorCode.BAD_REQUEST: "check product and BinanceBaseUrl; if both are right, report a bug",
    ErrorCode.RATE_LIMITED: "wait; if it lasts, lower MaxWeightPerMinute or find what else uses this address",
    ErrorCode.IP_BANNED: f"wait, and find what else uses this address; {_ADDRESS}",
    ErrorCode.WAF_BLOCKED: f"wait, Binance does not say for how long; {_ADDRESS}",
    ErrorCode.RESTRICTED_LOCATION: "renew manually, then move: docs/alarms.md, Binance refuses the address",
    ErrorCode.TIMEOUT: f"{_WAIT} and the function's outbound access",
    ErrorCode.CONNECTION: f"{_WAIT} and the function's routes and security groups",
    ErrorCode.SERVER_ERROR: _WAIT,
    ErrorCode.BAD_RESPONSE: "wait; if it lasts, look for a proxy that answers instead of Binance",
    ErrorCode.EXCHANGE_DOWN: f"{_WAIT} and the function's outbound access",
    ErrorCode.DEADLINE: "nothing at first; if it happens again, raise MaxConcurrency, or see scaling.md",
    ErrorCode.SECRET_NOT_FOUND: f"correct secretId, or write the API key: {_REPLACE}",
    ErrorCode.SECRET_DENIED: (
        "check that the secret's name is under SecretPrefix and its KMS key is the one in SecretsKmsKeyArn; "
        f"if not, correct samconfig.toml and deploy; {_THEN}"
    ),
    ErrorCode.SECRET_INVALID: (
        f"if several accounts of its secret fail: docs/alarms.md, A shared secret is broken; else: {_REPLACE}"
    ),
    ErrorCode.SECRET_UNAVAILABLE: "wait; if it lasts, check AWS's status page, and in a VPC its routes",
    ErrorCode.INVALID_ACCOUNT: (
        "correct it: listenkeys accounts set --OPTION VALUE NAME (or enable NAME); a wrong secretId: "
        f"remove the account and add it again; {_THEN}"
    ),
    ErrorCode.ACCOUNT_NOT_FOUND: "check the spelling",
    ErrorCode.ACCOUNT_DISABLED: "enable it: listenkeys accounts enable NAME",
    ErrorCode.RECORD_UNAVAILABLE: "wait; if one account alone: delete its item CURRENT, which is broken",
    ErrorCode.INTERNAL: "report the message as a bug",
}


def remedy(code: str, account_id: str) -> str | None:
    """Return what to do about an error, as a phrase; None for a code that is not in the table."""
    return REMEDIES[code].replace("NAME", as_argument(account_id)) if code in REMEDIES else None


def as_argument(account_id: str) -> str:
    """Return an id as an argument of a command: after `--` if it begins with a dash."""
    return f"-- {account_id}" if account_id.startswith("-") else account_id
