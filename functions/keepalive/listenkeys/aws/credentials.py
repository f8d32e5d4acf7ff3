"""Reads the accounts' API keys, afresh in every run: no cache is stale. No repr or message shows a secret."""

import json
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from ..errors import AccountError, ErrorCode, Rejected, Transient
from ..model import Account
from .clients import AwsError, SecretsManager, error_code

BATCH = 20  # BatchGetSecretValue's limit
# Each reader opens a connection, and botocore reads the CA bundle for it: slow in a small function.
_READERS, _BATCHES_OF_A_READER = 4, 10
_GIVE_UP_AFTER = 3  # calls in a row without an answer: the service is down, not one secret
# What Binance issues. Anything else is no API key, and may look malicious to Binance's firewall.
API_KEY = re.compile(r"[A-Za-z0-9_-]{1,256}")
_SIGNING_SECRETS = ("apiSecret", "secretKey")
_NOT_FOUND = {"ResourceNotFoundException"}
_DENIED = {"AccessDeniedException", "DecryptionFailure", "KMSAccessDeniedException"}
_BAD_REQUEST = {"InvalidParameterException", "InvalidRequestException", "ValidationException"}
# Errors of one secret, such as one without a value, that fail a whole call; the others in it may be fine.
_OF_ONE = _BAD_REQUEST | _NOT_FOUND | {"DecryptionFailure", "KMSAccessDeniedException"}


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key that does not show in a repr."""

    value: str = field(repr=False)


@dataclass(slots=True)
class Fetched:
    """Each account's API key, or why it has none, and whether any secret contains a signing secret."""

    keys: dict[str, ApiKey | AccountError]
    signing_secret_seen: bool = False


@dataclass(frozen=True, slots=True)
class Credentials:
    """Reads API keys from Secrets Manager, in batches."""

    secretsmanager: SecretsManager

    def fetch(self, accounts: Iterable[Account]) -> Fetched:
        """Return each account's API key, or why it has none.

        Every secret is read once, however many accounts use it. Its errors are returned, not raised:
        Transient SECRET_UNAVAILABLE if Secrets Manager did not answer, Rejected otherwise.
        """
        accounts = list(accounts)
        ids = list(dict.fromkeys(account.secret_id for account in accounts))
        batches = [ids[i : i + BATCH] for i in range(0, len(ids), BATCH)]
        contents, unanswered = dict[str, Any](), 0

        def read(batch: list[str]) -> dict[str, Any]:
            nonlocal unanswered
            if unanswered >= _GIVE_UP_AFTER:
                return dict.fromkeys(batch, _unavailable("not asked again after several failures"))
            found = self._read(batch)
            answered = not all(isinstance(content, Transient) for content in found.values())
            unanswered = 0 if answered else unanswered + 1
            return found

        readers = min(_READERS, 1 + len(batches) // _BATCHES_OF_A_READER)
        with ThreadPoolExecutor(readers) as pool:  # with one reader, this thread reads
            for found in (pool.map if readers > 1 else map)(read, batches):
                contents |= found
        return Fetched(
            {account.id: _key(contents[account.secret_id], account) for account in accounts},
            any(isinstance(c, dict) and not c.keys().isdisjoint(_SIGNING_SECRETS) for c in contents.values()),
        )

    def _read(self, ids: list[str]) -> dict[str, Any]:
        """Return each secret's parsed content, or why it has none."""
        request: dict[str, Any] = {"SecretIdList": ids}
        found, alone, code = dict[str, Any](), len(ids) == 1, ""

        def note(names: Iterable[object], content: Any) -> None:
            found.update(dict.fromkeys((id_ for id_ in ids if alone or id_ in names), content))

        try:
            while True:
                answer = self.secretsmanager.batch_get_secret_value(**request)
                for secret in answer.get("SecretValues", ()):
                    # The request may use the name, the ARN, or the ARN without its random suffix.
                    arn = str(secret.get("ARN"))
                    note((secret.get("Name"), arn, arn[:-7]), _parse(secret))
                for refused in answer.get("Errors", ()):
                    note((refused.get("SecretId"),), _problem(str(refused.get("ErrorCode", ""))))
                if not answer.get("NextToken"):
                    break
                request["NextToken"] = answer["NextToken"]
        except AwsError as error:
            code = error_code(error)
        left = [id_ for id_ in ids if id_ not in found]
        if alone or (code and code not in _OF_ONE):
            return found | dict.fromkeys(left, _problem(code))
        # One secret's error fails the whole call, and AWS may return an id in another form than requested.
        # So ask for each half, until the secret with the error is alone.
        for half in (left[: len(left) // 2], left[len(left) // 2 :]):
            if half:
                found |= self._read(half)
        return found


def _parse(secret: Any) -> dict[str, Any] | Rejected:
    # The parser's error would quote the content, so it is not kept, not even as a context.
    try:
        content = json.loads(secret["SecretString"].removeprefix("\ufeff"))  # some editors' byte order mark
    except (KeyError, ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        return _invalid('the secret must be text holding a JSON object: {"<secretField>": "<API key>"}')
    return content


def _key(content: Any, account: Account) -> ApiKey | AccountError:
    if isinstance(content, AccountError):
        return content
    value = content.get(account.secret_field)
    if value is None:
        return _invalid("the secret's JSON does not have the field that secretField names")
    if not isinstance(value, str) or not API_KEY.fullmatch(value):
        return _invalid("the secret's field must be the API key as a string: letters, digits, - and _ only")
    return ApiKey(value)


def _problem(code: str) -> AccountError:
    if code in _NOT_FOUND:
        missing = "the secret does not exist or has no value: create it, or correct secretId"
        return Rejected(ErrorCode.SECRET_NOT_FOUND, missing)
    if code in _DENIED:
        why = "the function may not read the secret: is it under SecretPrefix, with a KMS key it may use?"
        return Rejected(ErrorCode.SECRET_DENIED, why)
    if code in _BAD_REQUEST:
        return _invalid(f"Secrets Manager refused the secret ({code}): is it being deleted?")
    return _unavailable(code or "its answer did not mention it")


def _invalid(message: str) -> Rejected:
    return Rejected(ErrorCode.SECRET_INVALID, message)


def _unavailable(why: str) -> Transient:
    return Transient(ErrorCode.SECRET_UNAVAILABLE, f"Secrets Manager did not give the secret: {why}")
