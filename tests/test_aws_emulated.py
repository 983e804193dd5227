"""`aws-sm:` against moto, an emulation of AWS Secrets Manager: our side of it, and not what AWS itself does."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.errors import KeyUnusable
from store import secrets
from tests.support import aws_emulated

VALUE = "correct-horse-of-the-cloud"
JSON = json.dumps({"key": VALUE, "port": 5432, "empty": "", "#": "hash"})


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[aws_emulated.Emulated]:
    with aws_emulated.server(tmp_path_factory.mktemp("aws")) as found, pytest.MonkeyPatch.context() as patch:
        for name, value in found.environment.items():
            patch.setenv(name, value)
        client = found.client()
        client.create_secret(Name="plain", SecretString=VALUE)
        client.create_secret(Name="prod/db", SecretString=JSON)
        client.create_secret(Name="bytes", SecretBinary=VALUE.encode())
        client.create_secret(Name="list", SecretString=json.dumps([VALUE]))
        client.create_secret(Name="gone", SecretString=VALUE)
        client.delete_secret(SecretId="gone")
        yield found


@pytest.fixture(autouse=True)
def environment(emulated: aws_emulated.Emulated, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in emulated.environment.items():
        monkeypatch.setenv(name, value)


def refused(uri: str, *words: str) -> None:
    with pytest.raises(KeyUnusable) as caught:
        secrets.load(uri)
    for word in words:
        assert word in str(caught.value), caught.value
    assert VALUE not in str(caught.value)


def test_a_secret_of_the_emulation_is_found_by_name_member_and_arn(emulated: aws_emulated.Emulated) -> None:
    assert secrets.load("aws-sm:plain") == VALUE
    assert secrets.load("aws-sm:prod/db#key") == VALUE
    assert secrets.load("aws-sm:prod/db##") == "hash"
    arn = emulated.client().describe_secret(SecretId="plain")["ARN"]
    assert arn.startswith("arn:aws:secretsmanager:eu-central-1:")
    assert secrets.load(f"aws-sm:{arn}") == VALUE


def test_a_rotated_secret_of_the_emulation_is_taken_up(emulated: aws_emulated.Emulated) -> None:
    emulated.client().create_secret(Name="rotated", SecretString="before-the-rotation")
    emulated.client().put_secret_value(SecretId="rotated", SecretString="after-the-rotation")
    assert secrets.load("aws-sm:rotated") == "after-the-rotation"


@pytest.mark.parametrize(
    ("uri", "word"),
    [
        ("aws-sm:nobody", "no such secret"),
        ("aws-sm:gone", "being deleted"),
        ("aws-sm:bytes", "bytes, not text"),
        ("aws-sm:prod/db#nobody", "no such member"),
        ("aws-sm:prod/db#port", "no such member"),
        ("aws-sm:prod/db#empty", "empty"),
        ("aws-sm:plain#key", "no such member"),
        ("aws-sm:list#0", "no such member"),
    ],
)
def test_what_the_emulation_does_not_have_is_refused_and_no_value_told(uri: str, word: str) -> None:
    refused(uri, uri, word)


@pytest.mark.parametrize("uri", ["aws-sm:", "aws-sm:#key", "aws-sm:a b", "aws-sm:a#", "aws-sm:a?b"])
def test_a_uri_that_names_no_secret_is_refused_before_anybody_is_asked(uri: str) -> None:
    refused(uri, "names no secret")


def test_without_a_region_or_credentials_the_error_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_REGION")
    refused("aws-sm:plain", "no region")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    assert secrets.load("aws-sm:plain") == VALUE
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    refused("aws-sm:plain", "no credentials")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    refused("aws-sm:plain", "no credentials")


def test_a_secret_never_comes_in_clear_over_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", "http://198.51.100.1:1")
    refused("aws-sm:plain", "not https")


def test_a_service_that_is_down_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", "http://127.0.0.1:9")
    began = time.monotonic()
    refused("aws-sm:plain", "can't be asked")
    assert time.monotonic() - began < 30


def test_nothing_is_written_there_from_here() -> None:
    with pytest.raises(KeyUnusable, match="nothing is written there"):
        secrets.store("aws-sm:new", VALUE)


def test_without_its_package_the_error_names_what_to_install() -> None:
    code = "import sys; sys.modules['botocore'] = None; from store import secrets; secrets.load('aws-sm:a')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install 'agent-ledger[aws]'" in done.stderr, done
