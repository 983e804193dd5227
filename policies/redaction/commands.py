"""Passwords that programs take on their command line: by the program, and by the option that its manual names.

Read from shells, and from lists of arguments as JSON, YAML and programs write them.
"""

from collections.abc import Callable, Iterable, Iterator

from policies.redaction.detector import Detector, Found
from policies.redaction.likely import odd, password
from policies.redaction.patterns import compiled

KIND = "command-password"

_TOOLS = (
    ("ldapsearch|ldapadd|ldapmodify|ldapdelete|ldapmodrdn|ldapcompare|ldapwhoami|ldappasswd|ldapexop", "-w|-s|-a"),
    ("unzip|zip|zipcloak|fcrackzip", "-P|--password"),
    ("7z|7za|7zz|rar|unrar", "-p|-hp"),
    ("mysql|mysqldump|mysqladmin|mysqlimport|mysqlsh|mariadb|mariadb-dump|mycli", "-p|--password"),
    ("sshpass", "-p"),
    ("redis-cli|valkey-cli", "-a|--pass"),
    ("mongo|mongosh|mongodump|mongorestore|mongoexport|mongoimport|cqlsh|clickhouse-client", "-p|--password"),
    ("sqlcmd|bcp|isql|tsql|osql", "-P"),
    ("ipmitool|mosquitto_pub|mosquitto_sub|snowsql", "-P"),
    ("snmpget|snmpwalk|snmpset|snmpbulkwalk|snmptrap", "-A|-X"),
    ("keytool|jarsigner|apksigner", "-storepass|-keypass|-srcstorepass|-deststorepass|-srckeypass|-destkeypass|-new"),
    ("gpg|gpg2", "--passphrase"),
    ("ssh-keygen", "-N|-P"),
    ("kadmin|kadmin.local|kinit", "-w|-pw"),
    ("docker|podman|buildah|skopeo|crane|helm|oras|nerdctl|cf|oc|az|argocd|vault|tsh", "-p|--password|--creds"),
    ("svn|hg|aria2c|wget|lftp|ncftp|ncftpget", "--password|--http-password|--ftp-password|--http-passwd|-p"),
    ("xfreerdp|wfreerdp|mstsc|cmdkey|rdesktop", "/p:|/pass:|-p"),
    ("psexec|wmic|schtasks|wmiexec.py", "-p|/password:|/rp"),
    ("borg|restic|rclone|qpdf|pdftk|pdftotext", "--password|-upw|-opw|input_pw|user_pw|owner_pw|--decrypt-password"),
    ("influx|mc|curl", "-password|--pass|--proxy-pass|--oauth2-bearer"),
    ("impacket|crackmapexec|netexec|nxc|evil-winrm|hydra", "-p"),
)
# Whose manuals let the password follow its option without a space.
_GLUED = ("unzip", "7z", "mysql", "sshpass", "redis", "sqlcmd", "ipmitool", "xfreerdp")
_Q = "[\"'`,\\\\]"
_VALUE = r"(?:\"([^\"\n⟦⟧]{3,200})\"|'([^'\n⟦⟧]{3,200})'|([^\s\"'`⟦⟧,;|&<>(){}\[\]-][^\s\"'`⟦⟧|<>]{2,200}))"
_START = r"(?:^|[\s;&|$(`\"'/=])"
_UP_TO = r"[^\n;|⟦⟧]{0,400}?"
# What stands in a list as an argument of its own, or after an equals sign, or right behind a short option.
_THEN = rf"(?:{_Q}{{0,3}}\s{{1,4}}{_Q}?|{_Q}{{1,4}}\s{{0,40}}{_Q}{{1,3}}|=)"


def _by_option(tools: str, options: str) -> Iterator[str]:
    names, flags = tools.replace(".", r"\."), options.split("|")
    yield rf"{_START}(?:{names})\b{_UP_TO}[\s\"'](?:{options}){_THEN}{_VALUE}"
    glued = "|".join(flag for flag in flags if len(flag) == 2 or flag.endswith(":") or flag == "-hp")
    if glued and tools.startswith(_GLUED):
        yield rf"{_START}(?:{names})\b{_UP_TO}[\s\"'](?:{glued})[\"']?([^\s\"'`⟦⟧=-][^\s\"'`⟦⟧|<>]{{2,200}})"


_NAME = r"[^\s:,%\"'\\$⟦⟧@/]{1,80}"
_REST = r"([^\s\"'⟦⟧]{3,200})"
_PIPED = r"\s*\|\s*(?:sudo\s+(?:-\S+\s+)*-\S*S|(?:sudo\s+)?(?:passwd|cryptsetup|kinit|gpg2?|smbpasswd"
_OTHERS = (
    (
        "htpasswd",
        r"htpasswd\s(?:-[A-Za-z0-9]+\s+)*?-[A-Za-z0-9]*?b[A-Za-z0-9]*\s+[^\n;|⟦⟧]{0,200}?[^\s]+\s+"
        + _VALUE
        + r"\s*(?:$|[\n;|&>\"'`\\])",
    ),
    ("openssl|-passin|-passout|-pass", rf"-(?:pass(?:in|out)?|passwd|k)[\s=\"',]{{1,6}}pass:{_REST}"),
    (
        "-user|curl|wget|http",
        rf"(?:--user|--proxy-user|\s-[a-zA-Z]*u|\s-a|--auth|\s-U){_THEN}{_NAME}:([^\s\"'\\⟦⟧/]{{3,200}})",
    ),
    ("smbclient|rpcclient|smbget|mount.cifs|winexe|smbmap", rf"(?:-U|--user)[\s=]{{0,3}}[\"']?{_NAME}%{_REST}"),
    ("lftp|ncftp", rf"lftp\s[^\n⟦⟧]{{0,80}}?-u\s{{0,3}}[\"']?{_NAME},{_REST}"),
    ("cifs|mount", r"-o\s{0,3}[\"']?[^\s\"'⟦⟧]{0,200}?(?:^|[,\s\"'])pass(?:word)?=([^\s,\"'⟦⟧]{3,200})"),
    ("chpasswd", rf"echo\s+(?:-[en]\s+)?[\"']?{_NAME}:{_REST}[\"']?\s*\|\s*(?:sudo\s+)?chpasswd"),
    (
        "sudo -s|-stdin|passwd|cryptsetup|kinit|gpg",
        rf"(?:echo|printf|<<<)\s+(?:-[en]\s+)?{_VALUE}{_PIPED}"
        r"|[a-z]+ (?:[a-z-]+ )*[^\n|]{0,80}?--?(?:password|passphrase)-?(?:stdin|fd)?))",
    ),
    (
        "rabbitmqctl|net user|net use",
        r"(?:rabbitmqctl\s+(?:add_user|change_password)\s+\S+|net\s+user\s+\S+"
        rf"|net\s+use\s[^\n⟦⟧]{{0,120}}?/user:\S+)\s+{_VALUE}",
    ),
    (
        "sqlplus|expdp|impdp|rman|sqlldr",
        r"(?:sqlplus|expdp|impdp|rman|sqlldr)\s[^\n⟦⟧]{0,80}?[A-Za-z0-9_$#]{1,64}/[\"']?([^\s\"'@/⟦⟧]{3,128})[\"']?@",
    ),
    (
        "wpa_passphrase|nmcli",
        rf"(?:wpa_passphrase\s+(?:\"[^\"]+\"|'[^']+'|\S+)|nmcli\s[^\n⟦⟧]{{0,200}}?\bpassword)\s+{_VALUE}",
    ),
    ("requirepass|masterauth", r"(?i:requirepass|masterauth)\s{1,4}[\"']?([^\s\"'⟦⟧]{4,200})"),
    ("send ", r"(?:^|[\n;{])\s*(?:exp_)?send\s+(?:--\s+)?\"([^\"\n⟦⟧$ ]{4,100}?)\\+[rn]\""),
)
_GENERAL = (
    '-password|-passwd|-passphrase|-pass |-pass=|-pass"|-token|-secret|-api-key|-apikey|-pwd|-access-key',
    r"(?:^|[\s\"'\[(])--?[a-z0-9-]*?"
    rf"(?:password|passwd|passphrase|pass|pwd|token|secret|api-?key|secret-?key|access-key){_THEN}{_VALUE}",
)
_STANDS_FOR = compiled(
    r"(?i)^(?:\$|%|<|\{|@|/(?:dev|run|etc|proc|tmp)/|-|pass(?:word|wd|phrase)?$|pwd$|file:|env:|stdin|fd:|prompt|\*{3})",
    "stands for one",
)


def _given(value: bytes) -> bool:
    """Whether an argument could be a password, and not the place where one is."""
    return password(value) and _STANDS_FOR.search(value) is None and not value.endswith((b"(", b"=", b":"))


def _detector(name: str, words: Iterable[str], expressions: Iterable[str], check: Callable[[bytes], bool]) -> Detector:
    patterns = [compiled(expression, name) for expression in expressions]

    def find(text: bytes) -> Iterator[Found]:
        for pattern in patterns:
            groups = range(1, pattern.groups + 1)
            at = 0
            while (match := pattern.search(text, at)) is not None:
                start, end = next((span for span in map(match.span, groups) if span[0] >= 0), match.span())
                at = max(end, match.start() + 1)
                if _given(text[start:end]) and check(text[start:end]):
                    yield Found(start, end, KIND)

    keywords = tuple(dict.fromkeys(word.encode() for word in words))
    return Detector(name, (KIND,), keywords, 140, 620, find)


def _all() -> Iterator[Detector]:
    for tools, options in _TOOLS:
        names = tools.split("|")
        words = [name + end for name in names for end in (" ", '"', "'")]
        if tools.startswith("docker"):
            words = ["login", "--creds"]
        yield _detector(f"command-{names[0]}", words, _by_option(tools, options), password)
    for programs, expression in _OTHERS:
        first = programs.split("|")[0].strip().replace(" ", "")
        yield _detector(f"option-{first.strip('-')}", programs.split("|"), [expression], password)
    yield _detector("option-password", _GENERAL[0].split("|"), [_GENERAL[1]], odd)


DETECTORS = tuple(_all())
"""One for each row."""
