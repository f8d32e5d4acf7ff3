"""API keys in Secrets Manager. A key has a secret of its own, or several keys share one.

A secret's value is a JSON object, with an API key in a field. Nothing here prints, and no error quotes a
secret.
"""

import contextlib
import json
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from listenkeys.aws.clients import error_code
from listenkeys.aws.credentials import API_KEY
from listenkeys.model import Account

from .errors import CliError
from .output import some_of
from .stack import Stack, in_local_environment

MAX_SECRET_BYTES = 64 * 1024  # the limit of Secrets Manager
RECOVERY_DAYS = 30
_KEY_LENGTH = 64


@dataclass(frozen=True, slots=True)
class TakenOut:
    """What happened to a key when its account was removed.

    `what` is "kept", "field" (only its field was removed), "deleted" (with the whole secret, which can be
    restored in `region` until `until`) or "gone" (there was no secret to delete). With "field", `unused` says
    whether the secret stays though no account uses it.
    """

    what: str
    until: datetime | None = None
    region: str = ""
    unused: bool = False


def check_characters(key: str) -> None:
    """Raise CliError if the key has characters that an API key cannot have."""
    if not API_KEY.fullmatch(key):
        raise CliError("that is not an API key: it may have only letters, digits, - and _")


def length_note(keys: Mapping[str, str], stack: Stack) -> str | None:
    """Return a note if API keys, given by account id, are not as long as Binance's, else None.

    Always None in the local environment, and if the stack sends to another host: a stand-in's keys may be
    shorter.
    """
    odd = [name for name, key in keys.items() if len(key) != _KEY_LENGTH]
    if not odd or stack.parameters.get("BinanceBaseUrl") or in_local_environment():
        return None
    if len(odd) == 1:
        has = f"that of {odd[0]} has {len(keys[odd[0]])}: check it"
    else:
        has = f"those of {some_of(odd)} have more or fewer: check them"
    return f"note: Binance's API keys have {_KEY_LENGTH} characters, {has}"


class _BeingDeleted(CliError):
    """The secret is scheduled for deletion, and can be restored."""


class _NoObject(CliError):
    """The secret's value is not a JSON object."""


class ApiKeys:
    """Reads and changes API keys in Secrets Manager.

    If two commands change the same secret at the same time, the last one wins.
    """

    def __init__(self, secretsmanager: Any, kms_key: str) -> None:
        self._client = secretsmanager
        self._region: str = secretsmanager.meta.region_name
        self._kms_key = kms_key  # for new secrets; if empty, AWS's own key

    def check_secret(self, secret_id: str, replace: bool, own: bool, say: Callable[[str], None]) -> None:
        """Check that `put` could write to this secret, and raise CliError if not.

        Calls `say` with a sentence if `put` would restore the secret, or replace its whole content.
        """
        self._writable(secret_id, replace, own, say, restore=False)

    def check_content(self, secret_id: str) -> None:
        """Raise CliError if `take_out` could not read the secret."""
        with contextlib.suppress(_BeingDeleted):
            self._content(secret_id)

    def count(self, secret_id: str) -> int | None:
        """Return how many fields a secret has, or None if there is no such secret.

        Raises CliError if it is being deleted, or is not a JSON object.
        """
        unused = f"no valid account uses secret {secret_id}, and it is"
        try:
            content = self._content(secret_id)
        except _BeingDeleted:
            raise CliError(f"{unused} being deleted already") from None
        except _NoObject:
            delete = f"aws secretsmanager delete-secret --secret-id {secret_id} --region {self._region}"
            raise CliError(f"{unused} not a JSON object with API keys: `{delete}` deletes it") from None
        return None if content is None else len(content)

    def delete(self, secret_id: str) -> TakenOut:
        """Delete a secret, with a recovery window."""
        answer = self._client.delete_secret(SecretId=secret_id, RecoveryWindowInDays=RECOVERY_DAYS)
        return TakenOut("deleted", answer["DeletionDate"], self._region)

    def holds(self, secret_id: str, field: str) -> bool:
        """Return whether --replace would overwrite something here, or restore the secret."""
        try:
            content = self._content(secret_id)
        except (_BeingDeleted, _NoObject):
            return True
        return content is not None and field in content

    def put(
        self,
        secret_id: str,
        keys: Mapping[str, str],
        replace: bool,
        own: bool,
        say: Callable[[str], None] = lambda _: None,
        check: Callable[[Mapping[str, Any]], None] = lambda _: None,
    ) -> None:
        """Write keys, given by field, as one version of the secret, and leave its other fields unchanged.

        A secret that does not exist is created. With `replace`, a secret that is being deleted is restored,
        and if the secret is the account's `own`, content that is not a JSON object is replaced; `say` is
        called with a sentence in both cases. `check` is called with the secret's fields before anything is
        written.

        Raises CliError, and writes no key, if a value cannot be an API key, if the secret would be too long,
        or, without `replace`, if a field holds another key.
        """
        for key in keys.values():
            check_characters(key)
        content = self._writable(secret_id, replace, own, say, restore=True)
        if content is None:
            self._create(secret_id, keys)
            return
        check(content)
        held = [field for field, key in keys.items() if field in content and content[field] != key]
        if held and not replace:
            raise CliError(
                f"secret {secret_id} already holds another API key in field {some_of(held)}: overwrite it "
                "with --replace"
            )
        merged = {**content, **keys}
        if merged != content:  # equal if an earlier `add` stopped after writing the key
            self._write(secret_id, merged)

    def take_out(self, secret_id: str, fields: Collection[str]) -> TakenOut:
        """Remove these fields. If nothing else is in the secret, delete it, with a recovery window."""
        try:
            content = self._content(secret_id)
        except _BeingDeleted:
            content = None
        if content is None:
            return TakenOut("gone")
        rest = {name: value for name, value in content.items() if name not in fields}
        if rest:
            self._write(secret_id, rest)
            return TakenOut("field")
        return self.delete(secret_id)

    def _writable(
        self, secret_id: str, replace: bool, own: bool, say: Callable[[str], None], *, restore: bool
    ) -> dict[str, Any] | None:
        """Return the secret's fields, to which a key can be added, or None if the secret has to be created.

        With `restore` and `replace`, a secret that is being deleted is restored first; without `restore`, the
        result is None. Raises CliError if a key cannot be written to the secret.
        """
        try:
            content = self._content(secret_id)
        except _BeingDeleted:
            if not replace:
                raise
            say(f"the secret {secret_id} is being deleted: the command restores it, with all that is in it")
            if not restore:
                return None
            self._client.restore_secret(SecretId=secret_id)
            return self._writable(secret_id, replace, own, say, restore=restore)
        except _NoObject as error:
            if not (replace and own):
                or_replace = "" if replace else ", or --replace if it is the account's own"
                other = f"; to add an account, you can also pass another --secret{or_replace}"
                raise CliError(f"{error}{other}") from None
            say(f"the secret {secret_id} is not a JSON object: the command replaces its whole content")
            return {}
        if content is None and secret_id.startswith("arn:"):
            raise CliError("there is no secret with this ARN: give a name instead, and it is created")
        return content

    def _content(self, secret_id: str) -> dict[str, Any] | None:
        """Return a secret's fields, or None if there is no such secret or it has no value."""
        try:
            text = self._client.get_secret_value(SecretId=secret_id).get("SecretString")
        except ClientError as error:
            code = error_code(error)
            if code == "ResourceNotFoundException":
                return None
            if code == "InvalidRequestException":
                text = f"the secret {secret_id} is being deleted: pass --replace to restore it"
                raise _BeingDeleted(text) from None
            raise
        # The JSON parser's error contains the secret. Ours is raised outside the except block, so that the
        # parser's is not attached to it.
        try:
            content = json.loads((text or "").removeprefix("\ufeff"))
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise _NoObject(
                f"the secret {secret_id} is not a JSON object and was not changed: repair it "
                "(docs/alarms.md, A shared secret is broken)"
            )
        return content

    def _create(self, secret_id: str, keys: Mapping[str, str]) -> None:
        try:
            self._client.create_secret(
                Name=secret_id,
                Description="API keys for listenkey-keeper",
                SecretString=_text(secret_id, keys),
                **({"KmsKeyId": self._kms_key} if self._kms_key else {}),
            )
        except ClientError as error:
            if error_code(error) != "ResourceExistsException":
                raise
            self._write(secret_id, keys)  # the secret exists, but has no value

    def _write(self, secret_id: str, content: Mapping[str, Any]) -> None:
        self._client.put_secret_value(SecretId=secret_id, SecretString=_text(secret_id, content))


class Fields:
    """Keeps track of which accounts use which field of which secret."""

    def __init__(self, accounts: Iterable[Account]) -> None:
        self._users: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        for account in accounts:
            for name in _names(account.secret_id):
                self._users[name, account.secret_field].add(account.id)

    def others(self, account_id: str, secret_id: str, field: str) -> set[str]:
        """Return the ids of the other accounts that use this field."""
        return {user for name in _names(secret_id) for user in self._users[name, field]} - {account_id}

    def take(self, account_id: str, secret_id: str, field: str) -> None:
        """Note that an account uses a field. Raises CliError if another account uses it."""
        if others := self.others(account_id, secret_id, field):
            raise CliError(
                f"field {field} of secret {secret_id} is for {min(others)}'s API key: choose another "
                "field or secret"
            )
        for name in _names(secret_id):
            self._users[name, field].add(account_id)


def _text(secret_id: str, content: Mapping[str, Any]) -> str:
    text = json.dumps(content)
    if len(text.encode()) > MAX_SECRET_BYTES:
        raise CliError(f"the secret {secret_id} would exceed its limit of 64 KiB: use another with --secret")
    return text


def same_secret(left: str, right: str) -> bool:
    """Return whether two ids mean the same secret. An id is a name, or an ARN with or without its suffix."""
    return not _names(left).isdisjoint(_names(right))


def _names(secret_id: str) -> set[str]:
    if not secret_id.startswith("arn:"):
        return {secret_id}
    name = secret_id.partition(":secret:")[2]
    return {name, re.sub(r"-[A-Za-z0-9]{6}$", "", name)}
