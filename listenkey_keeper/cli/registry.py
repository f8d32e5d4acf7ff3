"""Reads and changes accounts for the commands: the rows of AccountsTable, and the API keys that they name.

The key is written before the row. So a failure can only leave a secret that no row names, and running the
same command again finishes the job. Nothing here prints.
"""

import contextlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from typing import Any

from listenkeys.aws.accounts import SECRET_ID, Accounts
from listenkeys.aws.clients import batch_get
from listenkeys.aws.record_items import key_of
from listenkeys.clock import SYSTEM_CLOCK
from listenkeys.errors import ErrorCode, Unavailable
from listenkeys.model import Account
from listenkeys.products import LIVE

from .api_keys import ApiKeys, Fields, TakenOut, same_secret
from .errors import CliError
from .output import some_of
from .rows import attributes, check_id, check_place, looks_like_a_key
from .stack import Stack

_DEFAULT_FIELD = "apiKey"
_MOST_GUESSED = 5
_LONGEST_KEY = 2048  # bytes: DynamoDB's limit for a partition key
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9/_+=.@:-]")  # the colon is allowed for ARNs


@dataclass(frozen=True, slots=True)
class Wanted:
    """The arguments of `add`. An option that was not passed is None."""

    account_id: str
    product: str | None = None
    secret_id: str | None = None
    secret_field: str | None = None
    create_if_missing: bool | None = None
    renew_after: str | None = None
    replace: bool = False
    environment: str | None = None


class Registry:
    """A stack's AccountsTable and the API keys of its accounts."""

    def __init__(self, stack: Stack) -> None:
        self._dynamodb = stack.client("dynamodb")
        self.keys = ApiKeys(stack.client("secretsmanager"), stack.parameters.get("SecretsKmsKeyArn", ""))
        self._table, self._records = stack.outputs["AccountsTableName"], stack.outputs["ListenKeysTableName"]
        self._prefix = stack.outputs["SecretPrefix"]
        self._accounts = Accounts(self._dynamodb, self._table, self._prefix, SYSTEM_CLOCK.sleep)

    def all(self) -> list[Account]:
        """Return every account, sorted by id."""
        return sorted((a for page in self._accounts.pages() for a in page), key=lambda account: account.id)

    def find(self, account_id: str) -> Account | None:
        """Return an account, or None if there is no such row."""
        [account] = self._accounts.named([account_id])
        missing = account.problem and account.problem.code == ErrorCode.ACCOUNT_NOT_FOUND
        return None if missing else account

    def get(self, account_id: str) -> Account:
        """Return an account, even if `check_id` rejects its id. Raises CliError if there is no such row."""
        account = None
        if looks_like_a_key(account_id):
            # Read all rows: what may be an API key must not be sent to AWS.
            account = next((a for a in self.all() if a.id == account_id), None)
        elif 0 < len(account_id.encode()) <= _LONGEST_KEY:
            account = self.find(account_id)
        if account is None:
            check_id(account_id)
            raise self._no_such(account_id)
        return account

    def check_known(self, account_id: str) -> None:
        """Raise CliError if this cannot be an account's id, unless there is a row with it."""
        try:
            check_id(account_id)
        except CliError:
            self.get(account_id)

    def get_all(self, ids: Sequence[str]) -> list[Account]:
        """Return these accounts, each once. Raises CliError, which lists the ids, if any have no row."""
        for id_ in ids:
            self.check_known(id_)
        named = self._accounts.named(list(dict.fromkeys(ids)))
        unknown = [a.id for a in named if a.problem and a.problem.code == ErrorCode.ACCOUNT_NOT_FOUND]
        if unknown:
            raise self._no_such(*unknown, secret=True)
        return named

    def recorded(self, ids: Sequence[str]) -> set[str]:
        """Return those ids that have a record, as a removed account leaves one.

        Empty if ListenKeysTable cannot be read: this is only for a hint.
        """
        found: set[str] = set()
        keys = [key_of(id_) for id_ in ids]
        with contextlib.suppress(Unavailable):
            rounds = batch_get(self._dynamodb, self._records, "ListenKeysTable", keys, SYSTEM_CLOCK.sleep)
            found.update(item["accountId"]["S"] for _, items in rounds for item in items)
        return found

    def add(
        self, wanted: Wanted, ask: Callable[[], str], say: Callable[[str], None]
    ) -> tuple[Account, Account | None]:
        """Add an account, or replace its API key. Return the account, and what it was before or None.

        `ask` returns the key, and is called after all other checks. Before it, `say` is called with a
        sentence about anything else that will be overwritten. Raises CliError if a check fails, before any
        key is written.
        """
        check_id(wanted.account_id)
        known = self.find(wanted.account_id)
        secret_id, field = self.place(wanted, known)
        accounts = self.all()
        Fields(accounts).take(wanted.account_id, secret_id, field)
        if wanted.replace and not known and not self.keys.holds(secret_id, field):
            asked = did_you_mean([wanted.account_id], [account.id for account in accounts])
            raise CliError(
                f"there is no account {wanted.account_id}, so no API key to replace:{asked} `listenkeys "
                "accounts list` shows the accounts; leave --replace out to add it"
            )
        own = secret_id == self.own_secret(wanted.account_id)
        self.keys.check_secret(secret_id, wanted.replace, own, say)
        key = ask()
        copies = {wanted.account_id: (wanted.product or (known.product if known else "usdm"), key)}
        check = partial(check_copies, copies, secret_id, accounts)
        self.keys.put(secret_id, {field: key}, wanted.replace, own, check=check)
        self.write_row(wanted, known, secret_id, field)
        return self.get(wanted.account_id), known

    def own_secret(self, account_id: str) -> str:
        """Return the name of an account's own secret."""
        return f"{self._prefix}/{account_id}"

    def place(self, wanted: Wanted, known: Account | None) -> tuple[str, str]:
        """Return the secret and the field that the key goes into.

        `known` is the account as it is now, or None. Makes no AWS call. Raises CliError if the arguments are
        invalid, or if the function could not read the secret.
        """
        attributes(wanted.create_if_missing, wanted.renew_after, wanted.environment, wanted.product)
        if known and not wanted.replace:
            raise CliError(
                f"{known.id} already exists: `listenkeys accounts list` shows its row, --replace replaces "
                "its API key"
            )
        if known and known.problem:
            raise CliError(
                f"{known.id} cannot be changed ({known.problem.message}): correct the row, or remove the "
                "account and add it again"
            )
        product, environment = (known.product, known.environment) if known else ("usdm", LIVE)
        check_place(wanted.product or product, wanted.environment or environment)
        own = self.own_secret(wanted.account_id)
        secret_id = wanted.secret_id or (known.secret_id if known else own)
        self._check_readable(secret_id)
        if wanted.secret_field:
            return secret_id, wanted.secret_field
        if known and secret_id == known.secret_id:
            return secret_id, known.secret_field
        # In a secret of several accounts, the default field of each is its id.
        return secret_id, _DEFAULT_FIELD if secret_id == own else wanted.account_id

    def write_row(self, wanted: Wanted, known: Account | None, secret_id: str, field: str) -> None:
        """Write the row of an account whose key is in this secret and field. Of a known one, only changes."""
        product = wanted.product or (None if known else "usdm")
        row = attributes(wanted.create_if_missing, wanted.renew_after, wanted.environment, product)
        if secret_id != (known.secret_id if known else self.own_secret(wanted.account_id)):
            row["secretId"] = {"S": secret_id}
        if field != (known.secret_field if known else _DEFAULT_FIELD):
            row["secretField"] = {"S": field}
        if known and row:
            self._update(known.id, row)
        elif not known:
            self._insert(wanted.account_id, row)

    def change(self, account_id: str, row: dict[str, Any]) -> Account:
        """Set these attributes, remove those that are None, and return the changed account.

        Raises CliError if there is no such account.
        """
        self._update(account_id, row)
        return self.get(account_id)

    def remove(self, account: Account) -> None:
        """Remove the row. The account's record and its ledger stay."""
        self._dynamodb.delete_item(TableName=self._table, Key={"accountId": {"S": account.id}})

    def check_key(self, account: Account) -> None:
        """Raise CliError if `take_keys` could not read the account's secret."""
        self.keys.check_content(account.secret_id)

    def take_keys(self, accounts: Sequence[Account]) -> dict[str, TakenOut]:
        """Remove the API keys of removed accounts, and return what happened to each, by account id.

        The accounts must share one secret. A key that another account uses too is kept.
        """
        left, secret_id = self.all(), accounts[0].secret_id
        used = Fields(left)
        fields = {
            account.id: account.secret_field
            for account in accounts
            if not used.others(account.id, account.secret_id, account.secret_field)
        }
        result = {account.id: TakenOut("kept") for account in accounts}
        if fields:
            taken = self.keys.take_out(secret_id, fields.values())
            if taken.what == "field":
                taken = replace(taken, unused=not may_use(left, secret_id))
            result |= dict.fromkeys(fields, taken)
        return result

    def left_in(self, secret_id: str) -> int | None:
        """Return how many fields a secret has that no account uses, or None if there is no such secret.

        Raises CliError if an account may use it, or if it is not one for API keys.
        """
        try:
            self._check_readable(secret_id)
        except CliError:
            return None
        count = self.keys.count(secret_id)
        if count is not None and may_use(self.all(), secret_id):
            raise CliError(
                f"secret {secret_id} may be that of an invalid row: correct or remove the rows that "
                "`listenkeys accounts list` calls invalid"
            )
        return count

    def _check_readable(self, secret_id: str) -> None:
        """Raise CliError if the function could not read this secret."""
        name = secret_id.partition(":secret:")[2] if secret_id.startswith("arn:") else secret_id
        inside = name.startswith(f"{self._prefix}/") and name != f"{self._prefix}/"
        # Quote only a name with the prefix: anything else may be an API key in the wrong place.
        if inside and (bad := _NOT_IN_A_NAME.search(secret_id.removeprefix("arn:"))):
            raise CliError(
                f"the secret's name {secret_id!a} has {bad[0]!a}: only letters, digits and /_+=.@- "
                "are allowed" + (" (was it read from a file with Windows line ends?)" * (bad[0] == "\r"))
            )
        if not (inside and SECRET_ID.fullmatch(secret_id)):
            raise CliError(
                f"the function reads only secrets under {self._prefix}/: name it {self._prefix}/NAME"
            )

    def _no_such(self, *unknown: str, secret: bool = False) -> CliError:
        known: list[Account] = []
        with contextlib.suppress(
            Unavailable
        ):  # such as without the permission; then the error suggests no other id
            known = self.all()
        return no_such(unknown, known, secret)

    def _insert(self, account_id: str, row: dict[str, Any]) -> None:
        try:
            self._dynamodb.put_item(
                TableName=self._table,
                Item={"accountId": {"S": account_id}, **_present(row)},
                ConditionExpression="attribute_not_exists(accountId)",
            )
        except self._dynamodb.exceptions.ConditionalCheckFailedException:
            raise CliError(
                f"another command has just added {account_id}: look at it before you pass --replace"
            ) from None

    def _update(self, account_id: str, row: dict[str, Any]) -> None:
        put = _present(row)
        removed = [f"#{name}" for name in row if name not in put]
        request: dict[str, Any] = {
            "UpdateExpression": " REMOVE " + ", ".join(removed) if removed else "",
            "ExpressionAttributeNames": {f"#{name}": name for name in row},
        }
        if put:
            request["UpdateExpression"] += " SET " + ", ".join(f"#{name} = :{name}" for name in put)
            request["ExpressionAttributeValues"] = {f":{name}": value for name, value in put.items()}
        try:
            self._dynamodb.update_item(
                TableName=self._table,
                Key={"accountId": {"S": account_id}},
                ConditionExpression="attribute_exists(accountId)",
                **request,
            )
        except self._dynamodb.exceptions.ConditionalCheckFailedException:
            raise self._no_such(account_id) from None


def check_copies(
    keys: Mapping[str, tuple[str, str]],
    secret_id: str,
    accounts: Iterable[Account],
    content: Mapping[str, Any],
) -> None:
    """Raise CliError if the secret holds one of these API keys for another account of the same product.

    `keys` has a product and an API key by account id, `accounts` are all accounts, and `content` is the
    secret's.
    """
    others = (a for a in accounts if a.id not in keys and same_secret(a.secret_id, secret_id))
    for other in others:
        for name, wanted in keys.items():
            if (other.product, content.get(other.secret_field)) == wanted:
                raise CliError(
                    f"{name} has the API key and the product of {other.id}, which is in this secret already"
                )


def may_use(accounts: Sequence[Account], secret_id: str) -> bool:
    """Return whether an account may use a secret: that of an invalid row is not read, and may be any."""
    return any(each.problem or same_secret(each.secret_id, secret_id) for each in accounts)


def no_such(unknown: Sequence[str], known: Sequence[Account], secret: bool) -> CliError:
    """Return the error for ids that have no row; it suggests the known accounts that may be meant.

    With `secret`, which is for commands that take --secret, one unknown id may be the name of a secret.
    """
    meant = did_you_mean(unknown, [account.id for account in known])
    if secret and len(unknown) == 1:
        in_it = [a for a in known if a.secret_id.rpartition("/")[2] == unknown[0]]
        # Two secrets of different paths may end alike.
        if in_it and all(same_secret(a.secret_id, in_it[0].secret_id) for a in in_it):
            names = some_of([account.id for account in in_it])
            meant = f" `--secret {in_it[0].secret_id}` means {names};"
    return CliError(
        f"there is no account {', '.join(unknown)}:{meant} `listenkeys accounts list` shows the accounts"
    )


def did_you_mean(unknown: Sequence[str], known: Iterable[str]) -> str:
    """Return a hint such as " did you mean alice?".

    Empty if no known id is similar to one of the first few unknown ids, or is one with a dash and more after
    it. Digits are never guessed: with another number it is another account, perhaps another owner's.
    """
    near: list[str] = []
    by_digits = defaultdict(list)
    known = list(known)
    for id_ in known:
        by_digits[re.sub(r"\D", "", id_)].append(id_)
    for id_ in unknown[:_MOST_GUESSED]:
        longer = [each for each in known if each.startswith(f"{id_}-")]
        near += longer or get_close_matches(id_, by_digits[re.sub(r"\D", "", id_)], n=1)
    return f" did you mean {some_of(list(dict.fromkeys(near)))}?" if near else ""


def _present(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None}
