"""Made-up values in the formats of credentials.

Formats are those that the vendors describe in their documentation. No value is a credential: all are drawn from a
seeded source, and no line of this file holds one whole. What must not leave stands between two marks, so that it is
found again however the text around it is escaped: a public prefix such as a token's type stands outside of them.
"""

import base64
import gzip
import json
import re
import string
import zlib
from collections.abc import Callable
from hashlib import sha256
from random import Random

OPEN, CLOSE = "\ue000", "\ue001"
HEX = "0123456789abcdef"
UPPER = string.ascii_uppercase + string.digits
ALNUM = string.ascii_letters + string.digits
URL = ALNUM + "-_"
_BASE64 = ALNUM + "+/"
PASSWORD = ALNUM + "!^*-_=+."
_BECH32 = "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L"


def marked(text: str) -> str:
    """A text that must not leave."""
    return f"{OPEN}{text}{CLOSE}"


def plain(text: str) -> str:
    """A text without its marks."""
    return text.replace(OPEN, "").replace(CLOSE, "")


def some(chance: Random, alphabet: str, count: int) -> str:
    """Characters drawn from an alphabet; where it has digits, one at least stands beside a letter."""
    while True:
        drawn = "".join(chance.choices(alphabet, k=count))
        mixed = any(c.isdigit() for c in drawn) and any(c.isalpha() for c in drawn)
        if mixed or alphabet.isdigit() or not any(c.isdigit() for c in alphabet):
            return drawn


def of(prefix: str, alphabet: str, count: int, suffix: str = "") -> Callable[[Random], str]:
    return lambda chance: prefix + marked(some(chance, alphabet, count) + suffix)


def either(*makes: Callable[[Random], str]) -> Callable[[Random], str]:
    return lambda chance: chance.choice(makes)(chance)


def base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


def gzip_of(content: bytes) -> str:
    return base64_of(gzip.compress(b"token: " + content + b"\nregion: eu\n", mtime=0))


def coded(chance: Random, count: int) -> str:
    return base64_of(chance.randbytes(count))


def _url64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def checked(prefix: str, count: int) -> Callable[[Random], str]:
    """Ends in six digits of base 62 of the CRC32 of what is before, as GitHub and npm write it."""
    digits = string.digits + string.ascii_uppercase + string.ascii_lowercase

    def make(chance: Random) -> str:
        body = some(chance, ALNUM, count)
        rest, check = zlib.crc32(body.encode()), ""
        for _ in range(6):
            rest, digit = divmod(rest, 62)
            check = digits[digit] + check
        return prefix + marked(body + check)

    return make


def uuid(chance: Random) -> str:
    drawn = some(chance, HEX, 32)
    return f"{drawn[:8]}-{drawn[8:12]}-4{drawn[13:16]}-a{drawn[17:20]}-{drawn[20:]}"


def password(chance: Random) -> str:
    return some(chance, PASSWORD, chance.randint(12, 24))


def _url_password(chance: Random) -> str:
    return some(chance, ALNUM + "-_.", chance.randint(10, 20)) + chance.choice(("", "%40", "%21x"))


# --- Keys in armour --------------------------------------------------------------------------------------------


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 128:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def _number(chance: Random, size: int) -> bytes:
    return _der(2, bytes((chance.randrange(1, 128),)) + chance.randbytes(size - 1))


def _rsa(chance: Random) -> bytes:
    """As RFC 8017 lays an RSAPrivateKey out; its numbers are noise."""
    numbers = b"".join(_number(chance, size) for size in (128, 3, 128, 64, 64, 64, 64, 64))
    return _der(0x30, _der(2, b"\0") + numbers)


def _armour(label: str, content: bytes, width: int = 64, extra: str = "") -> str:
    text = base64_of(content)
    body = "\n".join(text[at : at + width] for at in range(0, len(text), width))
    dashes = "-" * 5
    return f"{dashes}BEGIN {label}{dashes}\n{extra}{marked(body)}\n{dashes}END {label}{dashes}"


_PRIVATE = "PRIVATE" + " KEY"


def pem(chance: Random) -> str:
    return _armour("RSA " + _PRIVATE, _rsa(chance))


def pkcs8(chance: Random) -> str:
    algorithm = _der(0x30, bytes.fromhex("06092a864886f70d0101010500"))
    return _armour(_PRIVATE, _der(0x30, _der(2, b"\0") + algorithm + _der(4, _rsa(chance))))


def ec(chance: Random) -> str:
    inner = _der(2, b"\1") + _der(4, chance.randbytes(32)) + bytes.fromhex("a00a06082a8648ce3d030107")
    return _armour("EC " + _PRIVATE, _der(0x30, inner + _der(0xA1, _der(3, b"\0\4" + chance.randbytes(64)))))


def openssh(chance: Random) -> str:
    def field(content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + content

    none = field(b"none")
    public = field(field(b"ssh-ed25519") + field(chance.randbytes(32)))
    private = field(chance.randbytes(8) + field(b"ssh-ed25519") + chance.randbytes(140))
    content = b"openssh-key-v1\0" + none + none + field(b"") + b"\0\0\0\1" + public + private
    return _armour("OPENSSH " + _PRIVATE, content, 70)


def escaped(make: Callable[[Random], str]) -> Callable[[Random], str]:
    return lambda chance: make(chance).replace("\n", "\\n") + "\\n"


def pgp(chance: Random) -> str:
    content = bytes.fromhex("9503d8") + chance.randbytes(720)
    return _armour("PGP " + _PRIVATE + " BLOCK", content, 64, "\n")


def service_account(chance: Random) -> str:
    key = plain(pkcs8(chance)) + "\n"
    record = {
        "type": "service_account",
        "project_id": "acme-prod",
        "private_key_id": some(chance, HEX, 40),
        "private_key": key,
        "client_email": "deploy@acme-prod.iam.gserviceaccount.com",
        "client_id": some(chance, string.digits, 21),
    }
    text = json.dumps(record, indent=2)
    shown = json.dumps(key)[1:-1]
    body = shown[shown.index("\\n") + 2 : shown.rindex("\\n-----END")]
    return text.replace(body, marked(body))


# --- Tokens with a structure -----------------------------------------------------------------------------------


def jwt(chance: Random) -> str:
    head = _url64(json.dumps({"alg": chance.choice(("HS256", "RS256")), "typ": "JWT"}, separators=(",", ":")).encode())
    claims = {"sub": some(chance, string.digits, 10), "name": "Ada", "iat": 1_700_000_000 + chance.randrange(10**7)}
    body = _url64(json.dumps(claims, separators=(",", ":")).encode())
    return f"{head}.{marked(body + '.' + _url64(chance.randbytes(32)))}"


def macaroon(chance: Random) -> str:
    content = b"\2\1\10" + b"pypi" + b".org" + b"\2\44" + uuid(chance).encode() + b"\0\2" + chance.randbytes(70)
    text = _url64(content)
    return "pypi-" + text[:16] + marked(text[16:])


def openai(chance: Random) -> str:
    start = chance.choice(("sk-" + "proj-", "sk-" + "svcacct-"))
    return start + marked(some(chance, URL, 74) + "T3Blbk" + "FJ" + some(chance, URL, 74))


def openai_old(chance: Random) -> str:
    return "sk-" + marked(some(chance, ALNUM, 20) + "T3Blbk" + "FJ" + some(chance, ALNUM, 20))


def gitlab(chance: Random) -> str:
    kind = chance.choice(("pat", "dt", "rt", "ptt", "routable"))
    if kind == "ptt":
        return "glptt-" + marked(some(chance, HEX, 40))
    if kind == "routable":
        check = some(chance, HEX, 7)
        return "glpat-" + marked(some(chance, URL, 44) + ".01." + "0" + check)
    return {"pat": "glpat-", "dt": "gldt-", "rt": "glrt-"}[kind] + marked(some(chance, URL, 20))


def slack(chance: Random) -> str:
    digits = f"{chance.randrange(10**11, 10**12)}-{chance.randrange(10**12, 10**13)}"
    if chance.random() < 0.3:
        return f"xox{'p'}-{digits}-{chance.randrange(10**12, 10**13)}-" + marked(some(chance, HEX, 32))
    return f"xox{'b'}-{digits}-" + marked(some(chance, ALNUM, 24))


def slack_hook(chance: Random) -> str:
    place = f"T0{some(chance, UPPER, 9)}/B0{some(chance, UPPER, 9)}"
    return f"https://hooks.slack.com/services/{place}/" + marked(some(chance, ALNUM, 24))


def slack_app(chance: Random) -> str:
    app = f"A0{some(chance, UPPER, 9)}-{chance.randrange(10**12, 10**13)}"
    return f"xapp-1-{app}-" + marked(some(chance, HEX, 64))


def discord_bot(chance: Random) -> str:
    owner = _url64(str(chance.randrange(10**17, 10**18)).encode())
    return f"{owner}." + marked(f"G{some(chance, URL, 5)}.{some(chance, URL, 38)}")


def discord_hook(chance: Random) -> str:
    return f"https://discord.com/api/webhooks/{chance.randrange(10**18, 10**19)}/" + marked(some(chance, URL, 68))


def telegram(chance: Random) -> str:
    return f"{chance.randrange(10**9, 10**10)}:" + marked("AA" + some(chance, URL, 33))


def sendgrid(chance: Random) -> str:
    return "SG." + marked(some(chance, URL, 22) + "." + some(chance, URL, 43))


def mailgun(chance: Random) -> str:
    if chance.random() < 0.5:
        return "key-" + marked(some(chance, HEX, 32))
    return marked("-".join(some(chance, HEX, size) for size in (32, 8, 8)))


def sentry(chance: Random) -> str:
    if chance.random() < 0.5:
        return "sntry" + "u_" + marked(some(chance, HEX, 64))
    claims = {"iat": 1_700_000_000.5, "url": "https://sentry.io", "region_url": "https://us.sentry.io", "org": "acme"}
    return "sntry" + "s_" + marked(base64_of(json.dumps(claims).encode()) + "_" + some(chance, _BASE64, 43))


def grafana(chance: Random) -> str:
    if chance.random() < 0.6:
        return "glsa_" + marked(some(chance, ALNUM, 32) + "_" + some(chance, HEX, 8))
    claims = {"o": "123456", "n": "ci", "k": some(chance, ALNUM, 24), "m": {"r": "eu"}}
    return "glc_" + marked(base64_of(json.dumps(claims, separators=(",", ":")).encode()))


def age(chance: Random) -> str:
    return "AGE-SECRET" + "-KEY-1" + marked(some(chance, _BECH32, 58))


def sas(chance: Random) -> str:
    signature = coded(chance, 32).replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")
    return f"sv=2023-11-03&ss=b&srt=co&sp=rl&se=2027-01-01T00%3A00%3A00Z&spr=https&sig={marked(signature)}"


def uri(scheme: str, user: str, place: str) -> Callable[[Random], str]:
    return lambda chance: f"{scheme}://{user}:{marked(_url_password(chance))}@{place}"


def basic(chance: Random) -> str:
    return marked(base64_of(f"deploy:{password(chance)}".encode()))


def bytes_of(chance: Random) -> str:
    numbers = [f"0x{byte:02x}" for byte in chance.randbytes(chance.choice((16, 32)))]
    lines = [", ".join(numbers[at : at + 8]) for at in range(0, len(numbers), 8)]
    return marked(",\n    ".join(lines))


# Some words of the list of BIP-39, each with its number there.
_WORDS = re.findall(
    r"([a-z]+)(\d+)",
    "abandon0 ability1 able2 about3 above4 absent5 absorb6 abstract7 absurd8 abuse9 access10 accident11 account12 "
    "accuse13 achieve14 acid15 acoustic16 acquire17 across18 act19 action20 actor21 actress22 actual23 adapt24 add25 "
    "addict26 address27 adjust28 admit29 adult30 advance31 banana145 bargain149 basket153 beauty157 bench168 "
    "bicycle175 blanket186 blossom192 border206 bracket214 brave218 bridge222 bronze229 bubble234 bundle242 cabin254 "
    "cactus256 camera261 canvas269 carbon275 castle284 cattle290 ceiling295 cereal300 chapter307 cherry315 circle329 "
    "clarify335 clinic345 cluster355 coconut359 damage440 dance442 daughter446 decade452 defense459 denial467 "
    "desert477 diamond489 dinner498 dolphin518 donkey521 dragon528 drum540 dwarf549 dynamic550 eagle552 eight567 "
    "elbow569 elephant574 emerge581 empty585 enact587 engine595 enrich600 envelope606 equip609 erosion613 escape616 "
    "essay617 evidence622 exhaust635 explain644 fabric651 faculty653 famous661 fantasy664 fatigue670 feature673 "
    "fence680 festival681 fiber685 figure688 flavor709 float713 fossil735 frozen749 funny753 furnace754 galaxy759 "
    "garage763 garlic766 gauge772 genius775 ginger784 giraffe785 glimpse793 goddess801 gravity816 grunt825 guitar830 "
    "habit833 hammer836 hazard847 helmet855 hero858 hidden859 hockey867 horror877 hybrid896 icon898 idle901 "
    "illness905 immune909 impulse913 inherit926 injury929 inspire938 ivory951 jaguar953 jealous956 jelly958 "
    "journey963 juice966 jungle968 kangaroo972 ketchup975 kidney979 kitten986 kiwi987 knife989 label993 ladder995 "
    "laptop1000 lava1006 lawsuit1009 lecture1016 lemon1022 liberty1031 library1032 lizard1046 lottery1056 lumber1063 "
    "luxury1066 magnet1071 mammal1077 maple1084 market1089 measure1103 melody1108 mesh1118 mimic1126 miracle1131 "
    "mobile1139 monkey1145 mosquito1152 museum1165 mystery1171 napkin1175 nature1179 neglect1184 neutral1191 "
    "noble1197 notable1204 nuclear1210 oak1214 obscure1218 ocean1223 olympic1234 onion1238 orbit1247 orphan1254 "
    "ostrich1255 oxygen1266 palace1273 panther1278 parrot1283 peasant1297 pelican1298 penalty1300 phrase1310 "
    "pilot1319 pioneer1321 planet1327 pottery1351 pudding1385 puzzle1399 pyramid1400 quantum1402 quiz1407 rabbit1409 "
    "raccoon1410 radar1413 rebel1433 recipe1437 reform1442 remind1454 retreat1472 ribbon1480 rifle1485 ritual1492 "
    "robust1498 rotate1505 royal1509 saddle1518 salmon1523 satoshi1531 scorpion1545 segment1561 shadow1574 shrimp1593 "
    "silver1606 skull1622 slogan1631 snake1641 soccer1646 spatial1668 squirrel1693 stadium1695 sunset1740 swamp1753 "
    "symptom1764 tackle1768 tattoo1778 tenant1784 thunder1804 timber1809 toilet1822 torch1834 tragic1847 trumpet1868 "
    "tuition1873 turtle1879 ugly1888 umbrella1889 unfair1896 unveil1907 upset1913 urban1914 vacuum1924 valid1926 "
    "vault1934 velvet1936 vessel1944 vintage1953 virus1956 vivid1961 volcano1965 wagon1970 walnut1974 warfare1976 "
    "wealth1985 wheat1999 whisper2004 wisdom2018 wolf2022 wrestle2034 yellow2040 youth2043 zebra2044 zone2046 zoo2047",
)


def mnemonic(chance: Random) -> str:
    """Of 12 or 24 words, the last of which holds the checksum that BIP-39 asks for."""
    count = chance.choice((12, 12, 24))
    check = count // 3
    while True:
        drawn = chance.sample(_WORDS, count - 1)
        start = sum(int(number) << (11 * (count - 1 - at)) for at, (_, number) in enumerate(drawn))
        for last, number in _WORDS:
            entropy, told = divmod(start | int(number), 1 << check)
            if sha256(entropy.to_bytes(count * 4 // 3, "big")).digest()[0] >> (8 - check) == told:
                return marked(" ".join([*(word for word, _ in drawn), last]))


_WEAK = ("hunter2", "letmein1", "s3cr3t!", "Winter2024", "qwerty99", "admin-1234", "changeit!", "P@ssw0rd")


def weak(chance: Random) -> str:
    return marked(chance.choice(_WEAK) + chance.choice(("", "", str(chance.randrange(10, 99)))))


def wrapped(encode: Callable[[bytes], str]) -> Callable[[Random], str]:
    """A token of another kind, encoded."""
    inner = (
        checked("gh" + "p_", 30),
        sendgrid,
        openai_old,
        of("dop" + "_v1_", HEX, 64),
        of("sk" + "_live_", ALNUM, 48),
    )
    return lambda chance: marked(encode(plain(chance.choice(inner)(chance)).encode()))


def docker_auth(chance: Random) -> str:
    return marked(base64_of(f"acme:{password(chance)}".encode()))


def aws_pair(chance: Random) -> str:
    return marked(some(chance, _BASE64, 40))


def aws_session(chance: Random) -> str:
    return marked("IQoJb3JpZ2luX2Vj" + coded(chance, 210))


def aws_id(chance: Random) -> str:
    return chance.choice(("AK" + "IA", "AS" + "IA")) + some(chance, string.ascii_uppercase + "234567", 16)
