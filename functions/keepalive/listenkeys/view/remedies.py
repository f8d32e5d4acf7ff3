"""What to do about an error: one table for the page, the terminal, the events and the docs."""

from ..errors import ErrorCode

_IF_IT_LASTS = "if it lasts, check Binance's status page and the function's outbound access"
REMEDIES: dict[str, str] = {
    ErrorCode.LISTEN_KEY_NOT_FOUND: (
        "start the stream, or set createIfMissing to true; if it is, the next run tries again"
    ),
    ErrorCode.INVALID_API_KEY: (
        "check at Binance that the API key exists, that Enable Reading is on, and that its IP restriction "
        "allows the address in the message; if all are right, turn on Enable Futures (or the product's own)"
    ),
    ErrorCode.BAD_REQUEST: "check product and BinanceBaseUrl; if both are right, report a bug",
    ErrorCode.RATE_LIMITED: (
        "nothing at first; if it happens again, lower MaxWeightPerMinute or find what else uses this address"
    ),
    ErrorCode.IP_BANNED: "if it lasts, use another address (SubnetIds); find what else uses this one",
    ErrorCode.WAF_BLOCKED: "wait; if it lasts, use another address (SubnetIds)",
    ErrorCode.RESTRICTED_LOCATION: "deploy in another AWS region",
    ErrorCode.TIMEOUT: f"nothing at first; {_IF_IT_LASTS}",
    ErrorCode.CONNECTION: (
        "nothing at first; if it lasts, check Binance's status page and, in a VPC, routes, security "
        "groups and the proxy"
    ),
    ErrorCode.SERVER_ERROR: "wait; if it lasts, check Binance's status page",
    ErrorCode.BAD_RESPONSE: "wait; if it lasts, look for a proxy that answers instead of Binance",
    ErrorCode.EXCHANGE_DOWN: f"wait; {_IF_IT_LASTS}",
    ErrorCode.DEADLINE: "nothing at first; if it happens again, raise MaxConcurrency, or see scaling.md",
    ErrorCode.SECRET_NOT_FOUND: (
        "write the API key: listenkeys accounts add NAME --replace; or correct secretId"
    ),
    ErrorCode.SECRET_DENIED: (
        "check that the secret's name is under SecretPrefix and its KMS key is the one in SecretsKmsKeyArn"
    ),
    ErrorCode.SECRET_INVALID: (
        "write the API key again: listenkeys accounts add NAME --replace; if many accounts share the secret, "
        "correct its JSON"
    ),
    ErrorCode.SECRET_UNAVAILABLE: (
        "wait; if it lasts, check AWS's status page and the VPC's route to Secrets Manager"
    ),
    ErrorCode.INVALID_ACCOUNT: "correct the attribute that the message names, in AccountsTable",
    ErrorCode.ACCOUNT_NOT_FOUND: "check the spelling",
    ErrorCode.ACCOUNT_DISABLED: "enable it: listenkeys accounts enable NAME",
    ErrorCode.RECORD_UNAVAILABLE: (
        "wait, the next run renews it again; if only one account is affected, check its CURRENT item for an "
        "attribute of a wrong type"
    ),
    ErrorCode.INTERNAL: "report the message as a bug",
}


def remedy(code: str, account_id: str) -> str | None:
    """Return what to do about an error, as a phrase; None for a code that is not in the table."""
    text = REMEDIES.get(code)
    return text and text.replace("NAME", as_argument(account_id))


def as_argument(account_id: str) -> str:
    """Return an id as it is typed after a command: one that begins with a dash goes after `--`."""
    return f"-- {account_id}" if account_id.startswith("-") else account_id
