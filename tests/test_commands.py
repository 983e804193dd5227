"""Passwords on command lines and in members of their own; what our own records hold is none."""

import json

import pytest

from policies.redaction import commands
from policies.redaction.examples import spelled
from policies.redaction.plain import bare
from policies.redaction.rules import shipped
from policies.redaction.scan import Scanner

SCANNER = Scanner(shipped())
PASSWORD = "kit·ten99x".replace("·", "")


def masked(text: str) -> str:
    data = text.encode()
    for span in reversed(SCANNER.find(data)):
        data = data[: span.start] + b"_" + data[span.end :]
    return data.decode()


COMMANDS = [
    "ldapsearch -x -H ldap://h -D cn=a,dc=b -w {} -b dc=b",
    "unzip -q -P {} backup.zip",
    "7z x -p{} backup.7z",
    "mysql -h db -u root -p{} shop",
    "mysqldump --password={} shop",
    "sshpass -p {} ssh me@h",
    "htpasswd -b /srv/htpasswd bob {}",
    "htpasswd -nbB bob {}",
    "openssl enc -aes-256-cbc -passin pass:{} -in a",
    "curl -u bob:{} https://h/",
    "curl --user 'bob:{}' https://h/",
    "redis-cli -h c -a {} ping",
    "keytool -list -keystore k -storepass {}",
    "mongosh -u bob -p {} db",
    "smbclient -U 'bob%{}' //h/s",
    "mount -t cifs -o username=bob,password={} //h/s /m",
    "echo 'bob:{}' | sudo chpasswd",
    "echo {} | sudo -S id",
    "rabbitmqctl add_user bob {}",
    "sqlplus bob/{}@db",
    "docker login -u bob -p {} r.example",
    "tool --db-password {} run",
    'subprocess.run(["ldapsearch", "-D", "cn=a", "-w", "{}"])',
    'args: ["--password", "{}"]',
]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_password_on_a_command_line_is_masked(command: str) -> None:
    assert PASSWORD not in masked(command.format(PASSWORD))
    assert PASSWORD not in masked(json.dumps({"command": ["bash", "-lc", command.format(PASSWORD)]}))


@pytest.mark.parametrize("stands_for", ["$PW", "${PW}", "<password>", "/run/secrets/pw", "%PW%"])
@pytest.mark.parametrize("command", COMMANDS)
def test_what_stands_for_a_password_stays(command: str, stands_for: str) -> None:
    assert stands_for in masked(command.format(stands_for))


@pytest.mark.parametrize(
    "command",
    [
        "mkdir -p src/main2",
        "ssh -p 2222 h",
        "unzip -p a.zip x9.txt",
        "zip -r a1.zip b2",
        "docker run -p 8080:80 x1",
        "ls -w 80",
    ],
)
def test_options_of_other_programs_stay(command: str) -> None:
    assert masked(command) == command


TOKEN = spelled("⟨w40⟩").decode()
ENVIRONMENTS = [
    "env:\n  - name: ACME_API_TOKEN\n    value: {}\n",
    '  - name: ACME_API_TOKEN\n    value: "{}"\n',
    '{{"environment":[{{"name":"ACME_API_TOKEN","value":"{}"}}]}}',
    '{{"environment":[{{"value":"{}","name":"ACME_API_TOKEN"}}]}}',
    '{{"key": "ACME_API_TOKEN", "protected": true, "value": "{}"}}',
    'env {{\n  name  = "ACME_API_TOKEN"\n  value = "{}"\n}}',
    '<env name="ACME_API_TOKEN" value="{}"/>',
    "<name>acme.api.token</name>\n<value>{}</value>",
    "+    - name: ACME_API_TOKEN\n+      value: {}\n",
    "2026-01-02T03:04:05Z w: - name: ACME_API_TOKEN\n2026-01-02T03:04:05Z w:   value: {}\n",
]


@pytest.mark.parametrize("text", ENVIRONMENTS)
def test_a_value_whose_name_stands_in_another_member_is_masked(text: str) -> None:
    said = text.format(TOKEN)
    for _ in range(3):
        assert TOKEN not in masked(said)
        said = json.dumps({"output": said})


@pytest.mark.parametrize("text", ENVIRONMENTS)
def test_a_value_whose_name_says_nothing_stays(text: str) -> None:
    said = (
        text.replace("ACME_API_TOKEN", "ACME_BUILD_COMMIT")
        .replace("acme.api.token", "acme.build")
        .format("f" + "0a" * 9)
    )
    assert masked(said) == said


def record(**changed: object) -> str:
    entry: dict[str, object] = {
        "kind": "run.started",
        "v": 1,
        "time": "2026-11-25T03:06:51.838520Z",
        "run": "01a210ab-9c3d-7927-82cc-d5518d891813",
        "step": 1,
        "stage": "lift",
        "task": "src/a.c",
        "key": spelled("⟨x64⟩").decode(),
    }
    return json.dumps(entry | changed)


def test_the_commitment_in_our_own_records_stays_at_any_depth() -> None:
    said = record()
    for _ in range(3):
        assert masked(said) == said
        said = json.dumps({"output": said})


@pytest.mark.parametrize(
    "changed",
    [
        {"kind": "tool.call"},
        {"v": 2},
        {"time": "now"},
        {"run": "mine"},
        {"step": "one"},
        {"task": 'a", "b'},
        {"key": spelled("⟨x32⟩").decode()},
    ],
)
def test_a_key_in_what_is_no_record_of_ours_is_masked(changed: dict[str, object]) -> None:
    key = str(changed.get("key", spelled("⟨x64⟩").decode()))
    assert key not in masked(record(**changed))


def test_a_key_behind_a_step_or_a_model_alone_is_masked() -> None:
    key = spelled("⟨x64⟩").decode()
    for said in (f'{{"step":1,"key":"{key}"}}', f'{{"model":"m-1","key":"{key}"}}'):
        assert key not in masked(said)


@pytest.mark.parametrize(
    "lead", ["+", "> ", "12: ", "a/b.c:7:", "2026-01-02T03:04:05.678Z ", "Jan  2 03:04:05 h p[1]: ", "web_1  | "]
)
def test_lines_lose_what_a_log_puts_before_them_and_the_way_back_is_exact(lead: str) -> None:
    text = f"{lead}one\n{lead}two".encode()
    found = bare(text)
    assert found is not None
    assert found.text == b"one\ntwo"
    start, end = found.origin(4, 7)
    assert text[start:end] == b"two"


def test_no_two_detectors_share_a_name() -> None:
    names = [one.id for one in (*commands.DETECTORS, *shipped().detectors)]
    assert len(set(names)) == len(names)
