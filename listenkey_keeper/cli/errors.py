"""Explains an error in one line, with what to do. Omits AWS's own text, which may quote what was sent."""

import re
import traceback

from botocore import exceptions as botocore
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from listenkey_keeper.stream.keys import ListenKeyUnavailable
from listenkeys.aws.clients import error_code
from listenkeys.errors import Unavailable

_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
_UNKNOWN_KEY = {
    "AuthFailure", "IncompleteSignature", "InvalidAccessKeyId", "InvalidClientTokenId",
    "InvalidSignatureException", "SignatureDoesNotMatch", "UnrecognizedClientException",
}  # fmt: skip
_DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "KMSAccessDeniedException"}
_THROTTLED = {
    "ProvisionedThroughputExceededException", "RequestLimitExceeded", "SlowDown", "Throttling",
    "ThrottlingException", "TooManyRequestsException",
}  # fmt: skip
_OFF_LINE = {
    "ConnectTimeoutError", "ConnectionClosedError", "ConnectionError", "EndpointConnectionError",
    "HTTPClientError", "ProxyConnectionError", "ReadTimeoutError",
}  # fmt: skip
_SIGNED_OUT = (
    botocore.SSOTokenLoadError,
    botocore.UnauthorizedSSOTokenError,
    botocore.SSOError,
    botocore.TokenRetrievalError,
)


class CliError(Exception):
    """Ends the command; its text, one line, is printed to standard error."""


def explain(error: Exception) -> str:
    """Return one line that says what went wrong and what to do about it."""
    if isinstance(error, CliError):
        return str(error)
    if isinstance(error, Unavailable):
        # The program's own readers raise it with the text "<what could not be done>: <AWS's error code>".
        what, _, code = str(error).rpartition(": ")
        return f"{what}: {_by_code(code, '')}"
    if isinstance(error, ListenKeyUnavailable):
        return _by_code(error.code, "GetItem")
    if isinstance(error, ResponseParserError):
        return "the answer is not AWS's: check the proxy, AWS_ENDPOINT_URL and --region"
    if isinstance(error, ClientError):
        return _by_code(error_code(error), error.operation_name, error)
    if isinstance(error, BotoCoreError):
        return _by_class(error)
    where = error.__traceback__
    while where and where.tb_next:
        where = where.tb_next
    place = f" at {where.tb_frame.f_globals.get('__name__')}:{where.tb_lineno}" if where else ""
    return (
        f"a bug in listenkeys, please report it: {type(error).__name__}{place} (more with listenkeys --debug)"
    )


def way_to(error: BaseException) -> str:
    """Return an error's traceback without the errors' messages, which may quote what was sent."""
    lines = []
    at: BaseException | None = error
    while at is not None:
        lines += [*traceback.format_tb(at.__traceback__), f"{type(at).__module__}.{type(at).__qualname__}\n"]
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)
    return "".join(lines).rstrip()


def _by_class(error: BotoCoreError) -> str:
    if isinstance(error, _SIGNED_OUT):
        return "the AWS sign-in has expired: run `aws sso login` (with --profile, if you use one)"
    if isinstance(error, botocore.NoCredentialsError | botocore.PartialCredentialsError):
        return (
            "no AWS credentials: run `aws configure` or `aws sso login`, or choose a profile with --profile"
        )
    if isinstance(error, botocore.CredentialRetrievalError):
        return "the AWS credentials could not be loaded: sign in again, or choose another with --profile"
    if isinstance(error, botocore.ProfileNotFound):
        return "there is no such AWS profile: `aws configure list-profiles` lists the profiles"
    if isinstance(error, botocore.NoRegionError | botocore.InvalidRegionError):
        return "no AWS region, or not a valid one: pass --region, or set AWS_REGION"
    return _by_code(type(error).__name__, "")


def _by_code(code: str, operation: str, error: ClientError | None = None) -> str:
    if code in _EXPIRED:
        return (
            "the AWS credentials have expired: sign in again (`aws sso login`), or choose another (--profile)"
        )
    if code in _UNKNOWN_KEY:
        return "AWS does not know these credentials: check them with `aws sts get-caller-identity`"
    if code in _DENIED:
        found = re.search(r"perform: ([A-Za-z0-9-]+:[A-Za-z]+)", str(error)) if error else None
        action = found[1] if found else operation
        allowed = f"they do not allow {action}" if action else "they do not allow this"
        return f"access denied to these AWS credentials: {allowed}; choose another with --profile"
    if code in _THROTTLED:
        return f"AWS is throttling ({code}): try again in a moment"
    if code in _OFF_LINE:
        return f"AWS could not be reached ({code}): check the network, the proxy and --region"
    if code == "SSLError":
        return "AWS's certificate is not trusted (SSLError): check the CA bundle (AWS_CA_BUNDLE)"
    if code == "ResourceNotFoundException":
        what = f"the resource of {operation}" if operation else "it"
        return f"{what} does not exist: check that the stack is still deployed and that --region is right"
    if code == "InvalidRequestException" and operation in ("PutSecretValue", "DeleteSecret"):
        return (
            f"AWS refused {operation}: the secret is a replica of another region's (change it there), or has "
            "replicas (remove them first, with `aws secretsmanager remove-regions-from-replication`)"
        )
    return f"AWS answered {code}" + (f" to {operation}" if operation else "") + ": try again"
