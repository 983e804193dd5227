"""`aws-sm:NAME[#MEMBER]`: AWS Secrets Manager, by name or ARN; region and credentials as the environment has them."""

import json
import os
from typing import Any
from urllib.parse import urlsplit

from schemas.errors import KeyUnusable

CONNECT_S, READ_S, TRIES = 5, 10, 2
"""Bounds of one lookup."""

_WHY = {
    "ResourceNotFoundException": ("no such secret", "check the name and the region"),
    "AccessDeniedException": ("these credentials may not read it", "it takes secretsmanager:GetSecretValue"),
    "DecryptionFailure": ("its KMS key can't be used", "it takes kms:Decrypt"),
    "InvalidRequestException": ("it is being deleted", "restore it, or name another one"),
}
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def load(name: str) -> str:
    """The current value of a secret, or the string under one member of its JSON object.

    Raises:
        KeyUnusable: it can't be had: no region, no credentials, no such secret, no such member, no answer.
    """
    name, hash_, member = name.partition("#")
    uri = f"aws-sm:{name}{hash_}{member}"
    value = _value(uri, name)
    if not member:
        return value
    try:
        found = json.loads(value)[member]
    except (ValueError, LookupError, TypeError):
        found = None
    if not isinstance(found, str):
        # Neither the members that there are nor the text reach the message.
        raise KeyUnusable(f"{uri}: the secret has no such member of text", hint="it must be a JSON object of strings")
    return found


def _value(uri: str, name: str) -> str:
    try:
        import botocore.exceptions
        import botocore.session
        from botocore.config import Config
    except ImportError:
        raise KeyUnusable(f"{uri}: needs a package", hint="pip install 'agent-ledger[aws]'") from None
    config = Config(connect_timeout=CONNECT_S, read_timeout=READ_S, retries={"total_max_attempts": TRIES})
    try:
        client = botocore.session.get_session().create_client(
            "secretsmanager", region_name=_region(name), config=config
        )
        _check_transport(uri, client)
        answer: dict[str, Any] = client.get_secret_value(SecretId=name)
    except botocore.exceptions.NoRegionError:
        raise KeyUnusable(f"{uri}: no region", hint="export AWS_REGION, or name the secret by its ARN") from None
    except (botocore.exceptions.NoCredentialsError, botocore.exceptions.PartialCredentialsError):
        raise KeyUnusable(f"{uri}: no credentials for AWS", hint="`aws sts get-caller-identity` shows whose") from None
    except botocore.exceptions.ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", "unknown"))
        what, hint = _WHY.get(code, (f"AWS refused: {code}", "check the credentials and the region"))
        raise KeyUnusable(f"{uri}: {what}", hint=hint) from None
    except (botocore.exceptions.BotoCoreError, ValueError) as error:
        what = f"AWS can't be asked ({type(error).__name__})"
        raise KeyUnusable(f"{uri}: {what}", hint="check the network, the region and AWS_PROFILE") from None
    text = answer.get("SecretString")
    if not isinstance(text, str):
        raise KeyUnusable(f"{uri}: the secret is bytes, not text", hint="store its base64 as text")
    return text


def _region(name: str) -> str | None:
    parts = name.split(":")
    if parts[0] == "arn" and len(parts) > 3:
        return parts[3]
    return os.environ.get("AWS_REGION") or None


def _check_transport(uri: str, client: Any) -> None:
    """An endpoint that the environment names is held to what holds for every other way out."""
    endpoint = urlsplit(client.meta.endpoint_url)
    if endpoint.scheme != "https" and endpoint.hostname not in _LOOPBACK:
        raise KeyUnusable(f"{uri}: its endpoint is not https", hint="look at AWS_ENDPOINT_URL")
