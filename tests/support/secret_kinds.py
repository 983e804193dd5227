"""Kinds of secrets, each in the lines in which people write it."""

import string
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from tests.support import secret_values as v
from tests.support.secret_values import marked


class Kind(NamedTuple):
    """One kind.

    Attributes:
        name: one word with hyphens.
        make: draws a value.
        field: the variable that holds it, in upper case; empty where it never stands alone in one.
        lines: how it is used, `{}` being the value, `{field}` the variable and `{id}` an access key's id.
        held_out: further lines, which whoever writes rules does not get to see failing.
    """

    name: str
    make: Callable[[Random], str]
    field: str
    lines: tuple[str, ...]
    held_out: tuple[str, ...] = ()


_TOKEN = (
    "please use {} for the staging job, the old one expires on friday",
    "export {field}={}",
    'curl -sS -H "Authorization: Bearer {}" https://api.acme.internal/v1/items',
    "{field}: {}",
    'client = Client(token="{}", timeout=30)',
)
_LINK = (
    "{field}={}",
    'connect("{}")',
    "the staging one is {} by the way",
    "{field}: {}",
    '{"{field}": "{}", "retries": 3}',
)
_CONTEXT = (
    "export {field}={}",
    '{field} = "{}"',
    "set {field} to {} in the deployment and restart it",
    'config: {"{field}": "{}", "region": "eu"}',
    "{field}: {}",
)
_TOKEN_HELD_OUT = (
    'echo "{field}={}" >> "$GITHUB_ENV"',
    "I pasted {} into the channel by mistake, sorry",
    '      - name: {field}\n        value: "{}"',
    "await fetch(url, { headers: { authorization: `Bearer {}` } });",
    'os.environ["{field}"] = "{}"',
    "401 for token {} (expired)",
)
_LINK_HELD_OUT = (
    'os.environ.setdefault("{field}", "{}")',
    "      - name: {field}\n        value: {}",
    "could not connect to {}: timed out",
    "docker run -e {field}={} acme/app",
    "{field} {}",
    "var url = '{}';",
)
_CONTEXT_HELD_OUT = (
    'os.environ["{field}"] = "{}"',
    '      - name: {field}\n        value: "{}"',
    "{field}={} ./run.sh --once",
    '{"name": "{field}", "value": "{}"}',
    "docker run -e {field}={} acme/app",
    "our {field} is {} until monday",
)
_SENTENCE = (
    "{}",
    "here is what I have on disk:\n\n{}\n\ncan you check it?",
    "cat > /run/secret <<'EOF'\n{}\nEOF",
)

_USED_HELD_OUT = {
    "azure-storage-key": (
        "storage_account_key: {}",
        'StorageSharedKeyCredential("acmeprod", "{}")',
        "AZURE_STORAGE_CONNECTION_STRING=AccountName=acme;AccountKey={}",
    ),
    "azure-sas": ("sas: '?{}'", "wget 'https://acme.file.core.windows.net/share/x.tgz?{}' -O x.tgz"),
    "connection-string": (
        "Data Source=db,1433;Initial Catalog=prod;User Id=sa;Pwd={};",
        'DSN="dbname=prod user=app host=db password={}"',
        "DRIVER=ODBC Driver 18 for SQL Server;SERVER=db;UID=sa;PWD={}",
    ),
    "basic-auth": ("authorization: basic {}", 'req.Header.Set("Authorization", "Basic {}")'),
    "bearer": ("authorization: bearer {}", 'req.Header.Set("Authorization", "Bearer {}")', "auth header was Bearer {}"),
    "curl-user": (
        "curl --basic -u 'svc-deploy:{}' -O https://acme.internal/a",
        "http -a deploy:{} acme.internal/upload",
    ),
    "command-password": (
        "mysqldump --user=root --password={} shop",
        "ldapsearch -x -D cn=admin -w {} -b dc=acme",
        "unzip -P {} backup.zip",
        "kinit admin <<< {}",
        "smbclient //nas/share -U ops%{}",
        "htpasswd -b users.htpasswd ops {}",
    ),
    "netrc": ("default login anonymous password {}", "machine nas.internal login ops account main password {}"),
    "mnemonic": ("seed words: {}", 'ganache --mnemonic "{}"', "12-word backup phrase\n{}\n"),
    "hex-key-prose": (
        "HMAC key = {}",
        "the AES-256 key we use is 0x{}",
        "key (hex): {}",
        "I encrypted it with the key {}",
    ),
    "wallet-key": ("cast send --private-key {} acme.eth", "deployer key: {}", '"privateKey": "{}"'),
    "wireguard": ("wg set wg0 private-key <(echo {})", "  private-key: {}"),
    "byte-array": (
        "let master_key: [u8; 32] = [\n    {}\n];",
        "const encryptionKey = new Uint8Array([{}]);",
        "uint8_t session_key[] = {{}};",
    ),
    "password-prose": (
        "you can sign in with ops / {} (password), it is the old one",
        "Mot de passe : {}",
        "his password used to be {} I think",
        "pw: {}",
        "die neuen Zugangsdaten: Benutzer ops, Kennwort {}",
    ),
    "weak-env": ("PGPASSWORD={}", "ADMIN_PASSWORD={} # change me", "spring.datasource.password={}", "db_pass: {}"),
    "base64-of-token": ("blob={}", "<data>{}</data>"),
    "hex-of-token": ("0x{}", "dump: {}"),
    "gzip-of-token": ("payload: {}", "state={}"),
    "docker-auth": ('{"auths":{"https://r.acme.internal":{"auth":"{}","email":""}}}', ".dockerconfigjson auth={}"),
}


def _token(name: str, make: Callable[[Random], str], field: str, *lines: str) -> Kind:
    return Kind(name, make, field, (*lines, *_TOKEN), _TOKEN_HELD_OUT)


def _link(name: str, make: Callable[[Random], str], field: str, *lines: str) -> Kind:
    """A kind whose value is a URL."""
    return Kind(name, make, field, (*lines, *_LINK), _LINK_HELD_OUT)


def _named(name: str, make: Callable[[Random], str], field: str, *lines: str) -> Kind:
    """A kind that only the name beside it gives away."""
    return Kind(name, make, field, (*lines, *_CONTEXT), _CONTEXT_HELD_OUT)


def _used(name: str, make: Callable[[Random], str], *lines: str) -> Kind:
    """A kind that stands in commands and prose, not in a variable."""
    return Kind(name, make, "", lines, _USED_HELD_OUT.get(name, ()))


KINDS: tuple[Kind, ...] = (
    _named(
        "aws-secret-key",
        v.aws_pair,
        "AWS_SECRET_ACCESS_KEY",
        "[default]\naws_access_key_id = {id}\naws_secret_access_key = {}",
    ),
    _named("aws-session-token", v.aws_session, "AWS_SESSION_TOKEN", "aws_session_token={}"),
    _token(
        "gcp-api-key",
        v.of("AI" + "za", v.URL, 35),
        "GOOGLE_API_KEY",
        "https://maps.googleapis.com/maps/api/js?key={}&v=3",
    ),
    _used("gcp-service-account", v.service_account, *_SENTENCE),
    _token(
        "gcp-oauth", v.either(v.of("GOC" + "SPX-", v.URL, 28), v.of("ya" + "29.a0", v.URL, 150)), "GOOGLE_OAUTH_SECRET"
    ),
    _used(
        "azure-storage-key",
        lambda chance: marked(v.coded(chance, 64)),
        "DefaultEndpointsProtocol=https;AccountName=acmeprod;AccountKey={};EndpointSuffix=core.windows.net",
        "az storage blob list --account-name acmeprod --account-key {} -c logs",
        'AZURE_STORAGE_KEY="{}"',
        '"ConnectionString": "BlobEndpoint=https://acme.blob.core.windows.net;AccountName=acme;AccountKey={}"',
    ),
    _token(
        "azure-client-secret",
        lambda chance: marked(
            v.some(chance, v.ALNUM, 3) + f"{chance.randrange(6, 9)}Q~" + v.some(chance, v.ALNUM + "-_.~", 34)
        ),
        "AZURE_CLIENT_SECRET",
    ),
    _used(
        "azure-sas",
        v.sas,
        "https://acme.blob.core.windows.net/backups/db.bak?{}",
        "azcopy copy 'https://acme.blob.core.windows.net/in?{}' . --recursive",
        'SAS_TOKEN="?{}"',
        "the container is readable with {} until January",
    ),
    _named(
        "azure-devops-pat",
        lambda chance: marked(v.some(chance, v.ALNUM, 76) + "AZ" + "DO" + v.some(chance, v.ALNUM, 4)),
        "AZURE_DEVOPS_EXT_PAT",
        "echo {} | az devops login --organization https://dev.azure.com/acme",
    ),
    _token("openai", v.either(v.openai, v.openai_old), "OPENAI_API_KEY", 'client = OpenAI(api_key="{}")'),
    _token(
        "anthropic",
        lambda c: "sk-" + "ant-api03-" + marked(v.some(c, v.URL, 93) + "AA"),
        "ANTHROPIC_API_KEY",
        "x-api-key: {}",
    ),
    _token("hugging-face", v.of("h" + "f_", string.ascii_letters, 34), "HF_TOKEN", "huggingface-cli login --token {}"),
    _token(
        "github-classic", v.checked("gh" + "p_", 30), "GITHUB_TOKEN", "git clone https://{}@github.com/acme/app.git"
    ),
    _token(
        "github-fine-grained",
        lambda chance: "github" + "_pat_" + marked(v.some(chance, v.ALNUM, 22) + "_" + v.some(chance, v.ALNUM, 59)),
        "GH_TOKEN",
    ),
    _token(
        "github-app",
        v.either(*(v.checked(f"gh{letter}_", 30) for letter in "ousr")),
        "GITHUB_APP_TOKEN",
        "git remote set-url origin https://x-access-token:{}@github.com/acme/app",
    ),
    _token("gitlab", v.gitlab, "GITLAB_TOKEN", 'curl -H "PRIVATE-TOKEN: {}" https://gitlab.acme.internal/api/v4/user'),
    _token(
        "bitbucket",
        v.either(
            v.of("AT" + "BB", v.ALNUM, 32),
            lambda c: (
                "ATATT3x"
                + "FfGF0"
                + marked(v.some(c, v.URL, 172) + "=" + v.some(c, v.UPPER[:6] + v.HEX[:10].upper(), 8))
            ),
        ),
        "BITBUCKET_APP_PASSWORD",
    ),
    _token("npm", v.checked("np" + "m_", 30), "NPM_TOKEN", "//npm.acme.internal/:_authToken={}"),
    _token("pypi", v.macaroon, "TWINE_PASSWORD", "[pypi]\nusername = __token__\npassword = {}"),
    _token("rubygems", v.of("rubygems" + "_", v.HEX, 48), "GEM_HOST_API_KEY", "---\n:rubygems_api_key: {}"),
    _token(
        "docker-hub",
        v.either(v.of("dckr" + "_pat_", v.URL, 27), v.of("dckr" + "_oat_", v.URL, 32)),
        "DOCKER_PASSWORD",
        "docker login -u acme -p {}",
    ),
    _token("slack-token", v.slack, "SLACK_BOT_TOKEN"),
    _link("slack-webhook", v.slack_hook, "SLACK_WEBHOOK_URL", 'curl -X POST -d \'{"text":"hi"}\' {}'),
    _token("slack-app", v.slack_app, "SLACK_APP_TOKEN"),
    _token("discord-bot", v.discord_bot, "DISCORD_TOKEN", "Authorization: Bot {}"),
    _link("discord-webhook", v.discord_hook, "DISCORD_WEBHOOK"),
    _token("telegram", v.telegram, "TELEGRAM_BOT_TOKEN", "https://api.telegram.org/bot{}/getMe"),
    _named(
        "twilio", v.of("", v.HEX, 32), "TWILIO_AUTH_TOKEN", 'client = twilio.rest.Client(account_sid, auth_token="{}")'
    ),
    _token("sendgrid", v.sendgrid, "SENDGRID_API_KEY"),
    _named("mailgun", v.mailgun, "MAILGUN_API_KEY", "curl -s --user 'api:{}' https://api.mailgun.net/v3/acme/messages"),
    _token(
        "stripe",
        v.either(
            v.of("sk" + "_live_", v.ALNUM, 24), v.of("rk" + "_live_51", v.ALNUM, 97), v.of("wh" + "sec_", v.ALNUM, 32)
        ),
        "STRIPE_SECRET_KEY",
        "curl https://api.stripe.com/v1/charges -u {}:",
    ),
    _token("square", v.either(v.of("EA" + "AA", v.URL, 60), v.of("sq0" + "csp-", v.URL, 43)), "SQUARE_ACCESS_TOKEN"),
    _named(
        "paypal",
        v.either(
            lambda c: marked("E" + v.some(c, v.URL, 79)),
            lambda c: (
                "access"
                + "_token$production$"
                + v.some(c, v.HEX[:10] + "bcdfgh", 16)
                + "$"
                + marked(v.some(c, v.HEX, 32))
            ),
        ),
        "PAYPAL_CLIENT_SECRET",
    ),
    _token(
        "shopify",
        v.either(*(v.of(f"shp{part}_", v.HEX, 32) for part in ("at", "ss", "ca", "pa"))),
        "SHOPIFY_ACCESS_TOKEN",
        "X-Shopify-Access-Token: {}",
    ),
    _token(
        "digitalocean",
        v.either(*(v.of(f"do{part}_v1_", v.HEX, 64) for part in "por")),
        "DIGITALOCEAN_ACCESS_TOKEN",
        "doctl auth init -t {}",
    ),
    _named(
        "heroku",
        v.either(lambda c: marked(v.uuid(c)), lambda c: "HRKU-" + "AA" + marked(v.some(c, v.URL, 58))),
        "HEROKU_API_KEY",
    ),
    _named("cloudflare", v.either(v.of("", v.URL, 40), v.of("cf" + "ut_", v.ALNUM, 48)), "CLOUDFLARE_API_TOKEN"),
    _named(
        "fastly",
        v.of("", v.URL, 32),
        "FASTLY_API_TOKEN",
        "curl -H 'Fastly-Key: {}' https://api.fastly.com/current_customer",
    ),
    _named(
        "datadog",
        v.either(v.of("", v.HEX, 32), v.of("", v.HEX, 40)),
        "DD_API_KEY",
        "curl -H 'DD-API-KEY: {}' https://api.datadoghq.eu/api/v1/validate",
    ),
    _token(
        "new-relic",
        v.either(v.of("NR" + "AK-", v.UPPER, 27), lambda c: marked("eu01xx" + v.some(c, v.HEX, 30)) + "NR" + "AL"),
        "NEW_RELIC_LICENSE_KEY",
    ),
    _token("sentry", v.sentry, "SENTRY_AUTH_TOKEN", "[auth]\ntoken={}"),
    _named(
        "pagerduty",
        v.either(v.of("u+", v.URL, 18), v.of("", v.URL, 20)),
        "PAGERDUTY_API_KEY",
        "Authorization: Token token={}",
    ),
    _token("grafana", v.grafana, "GRAFANA_TOKEN"),
    _token(
        "terraform",
        lambda chance: v.some(chance, v.ALNUM, 14) + "." + "atlasv1." + marked(v.some(chance, v.URL, 67)),
        "TFE_TOKEN",
        'credentials "app.terraform.io" {\n  token = "{}"\n}',
    ),
    _token(
        "vault",
        v.either(v.of("hv" + "s.CAES", v.URL, 90), v.of("hv" + "b.AAAA", v.URL, 140)),
        "VAULT_TOKEN",
        "X-Vault-Token: {}",
        "vault login {}",
    ),
    _token(
        "databricks",
        v.of("da" + "pi", v.HEX, 32, "-2"),
        "DATABRICKS_TOKEN",
        "[DEFAULT]\nhost = https://acme.cloud.databricks.com\ntoken = {}",
    ),
    _named(
        "snowflake",
        lambda chance: marked(v.password(chance)),
        "SNOWFLAKE_PASSWORD",
        'snowflake.connector.connect(user="etl", password="{}", account="ab12345.eu-west-1")',
    ),
    _token("linear", v.of("lin" + "_api_", v.ALNUM, 40), "LINEAR_API_KEY"),
    _token(
        "postman", lambda c: "PM" + "AK-" + marked(v.some(c, v.HEX, 24) + "-" + v.some(c, v.HEX, 34)), "POSTMAN_API_KEY"
    ),
    _link("mongodb-uri", v.uri("mongodb+srv", "app", "cluster0.ab1cd.mongodb.net/prod?retryWrites=true"), "MONGO_URL"),
    _link(
        "postgres-uri", v.uri("postgresql", "app", "db.internal:5432/prod?sslmode=require"), "DATABASE_URL", "psql {}"
    ),
    _link(
        "redis-uri",
        v.either(v.uri("redis", "", "cache.internal:6379/0"), v.uri("rediss", "default", "r.acme.internal:6380")),
        "REDIS_URL",
    ),
    _link("mysql-uri", v.uri("mysql+pymysql", "root", "10.0.3.7/shop"), "SQLALCHEMY_DATABASE_URI"),
    _used(
        "connection-string",
        lambda chance: marked(v.password(chance).replace(";", "x")),
        "Server=tcp:acme.database.windows.net,1433;Database=prod;User ID=sa;Password={};Encrypt=True;",
        "jdbc:sqlserver://db:1433;databaseName=prod;user=sa;password={};",
        "host=db.internal port=5432 dbname=prod user=app password={} sslmode=require",
        "jdbc:postgresql://db.internal/prod?user=app&password={}&ssl=true",
        "amqp connection: Endpoint=sb://acme.servicebus.windows.net/;SharedAccessKeyName=root;SharedAccessKey={}",
    ),
    _used(
        "url-password",
        v.uri("https", "deploy", "git.acme.internal/team/app.git"),
        "git clone {}",
        "index-url = {}",
        "origin\t{} (fetch)",
        "proxy: {}",
    ),
    _token("jwt", v.jwt, "ACCESS_TOKEN", "Cookie: session={}; theme=dark"),
    _used("pem-key", v.either(v.pem, v.ec, v.pkcs8), *_SENTENCE),
    _used("openssh-key", v.openssh, *_SENTENCE),
    _used(
        "escaped-pem",
        v.escaped(v.either(v.pem, v.ec, v.openssh)),
        'PRIVATE_KEY="{}"',
        '"privateKey": "{}",',
        "tls_key = '{}'",
    ),
    _used("pgp-key", v.pgp, *_SENTENCE),
    _token("age-key", v.age, "AGE_KEY", "# created: 2026-01-01\n# public key: age1xyz\n{}"),
    _used(
        "basic-auth",
        v.basic,
        "Authorization: Basic {}",
        "curl -H 'Authorization: Basic {}' https://acme.internal/",
        'headers = {"Authorization": "Basic {}"}',
        "> Proxy-Authorization: Basic {}",
    ),
    _used(
        "bearer",
        v.of("", v.URL, 48),
        "Authorization: Bearer {}",
        "curl -H 'Authorization: Bearer {}' https://acme.internal/",
        'headers = {"authorization": "Bearer {}"}',
        '  --header="Authorization: Bearer {}"',
    ),
    _used(
        "curl-user",
        lambda chance: marked(v.password(chance)),
        "curl -u deploy:{} https://acme.internal/upload",
        'curl -sS --user "deploy:{}" -T app.tgz https://acme.internal/upload',
        "curl -fu 'deploy:{}' https://acme.internal/",
        "wget --user=deploy --password={} https://acme.internal/app.tgz",
    ),
    _used(
        "command-password",
        lambda chance: marked(v.some(chance, v.ALNUM + "_-", 14)),
        "mysql -h db -u root -p{} shop < dump.sql",
        "sshpass -p {} ssh root@10.0.0.4",
        "PGPASSWORD={} pg_dump -h db -U app prod",
        "redis-cli -h cache -a {} info",
        "docker login -u acme --password {} registry.acme.internal",
        "openssl enc -d -aes-256-cbc -pass pass:{} -in a.enc",
    ),
    _used(
        "netrc",
        lambda chance: marked(v.password(chance)),
        "machine acme.internal login deploy password {}",
        "machine acme.internal\n  login deploy\n  password {}\n",
    ),
    _used(
        "mnemonic",
        v.mnemonic,
        "my seed phrase is {}",
        'MNEMONIC="{}"',
        "wallet recovery phrase: {}",
        "const hdwallet = HDWallet.fromMnemonic('{}'); // mnemonic",
        "the mnemonic for the test wallet: {} (12 or 24 words)",
    ),
    _named(
        "generic-api-key",
        v.either(v.of("", v.ALNUM, 32), v.of("", v.ALNUM, 40), v.of("", v.URL, 24)),
        "ACME_API_KEY",
        'requests.get(url, params={"api_key": "{}"})',
        "GET /v1/items?api_key={}&page=2",
        "x-api-key: {}",
    ),
    _named(
        "signing-secret",
        v.either(v.of("", v.HEX, 64), v.of("", v.PASSWORD, 50)),
        "JWT_SIGNING_SECRET",
        'app.config["SECRET_KEY"] = "{}"',
        "SESSION_SECRET={}",
    ),
    _used(
        "hex-key-prose",
        v.of("", v.HEX, 64),
        "the encryption key is {} and the IV is all zeros",
        "use the AES key {} to decrypt the dump",
        "master key: {}",
        "decrypted with key {}",
    ),
    _used(
        "wallet-key",
        lambda c: "0x" + marked(v.some(c, v.HEX, 64)),
        "PRIVATE_KEY={}",
        "private key of the deployer: {}",
        'accounts: ["{}"], // private keys',
        'const wallet = new Wallet(privateKey="{}")',
    ),
    _used(
        "wireguard",
        lambda c: marked(v.coded(c, 32)),
        "[Interface]\nAddress = 10.2.0.2/32\nPrivateKey = {}\n",
        "[Peer]\nPresharedKey = {}\n",
        "private_key: {}",
    ),
    _used(
        "byte-array",
        v.bytes_of,
        "static const uint8_t aes_key[] = {\n    {}\n};",
        "const unsigned char SECRET_KEY[KEY_LEN] = { {} };",
        "private_key = bytes([\n    {}\n])",
        "var hmacKey = []byte{\n    {},\n}",
        "byte[] encryptionKey = new byte[] {\n    {}\n};",
    ),
    _used(
        "password-prose",
        lambda chance: marked(v.password(chance).rstrip(".!")),
        "the password is {}",
        "log in as admin with password {} and restart it",
        "username: ops, password: {}",
        "the root password for the box was changed to {}, tell nobody",
        "Passwort: {}",
        "my password for the VPN is '{}'",
    ),
    _used(
        "weak-env",
        v.weak,
        "DB_HOST=localhost\nDB_PASSWORD={}\nDB_NAME=shop",
        "MYSQL_ROOT_PASSWORD={}",
        "export ADMIN_PASS={}",
        "SMTP_PASSWORD='{}'\nSMTP_PORT=587",
        "      POSTGRES_PASSWORD: {}",
        "REDIS_PASSWORD={}\n",
    ),
    _used(
        "base64-of-token",
        v.wrapped(v.base64_of),
        "echo {} | base64 -d",
        "apiVersion: v1\nkind: Secret\ndata:\n  token: {}",
        'atob("{}")',
    ),
    _used("hex-of-token", v.wrapped(bytes.hex), "echo {} | xxd -r -p", "payload = bytes.fromhex('{}')", "body: {}"),
    _used(
        "gzip-of-token",
        v.wrapped(v.gzip_of),
        "base64 -d <<< {} | gunzip",
        "release: {}",
        'data = gzip.decompress(b64decode("{}"))',
    ),
    _used(
        "docker-auth",
        v.docker_auth,
        '{"auths": {"registry.acme.internal": {"auth": "{}"}}}',
        '"https://registry.acme.internal/": {\n      "auth": "{}"\n    }',
    ),
)


def draw(kind: Kind, chance: Random, number: int, *, held_out: bool = False) -> tuple[str, str]:
    """A made-up value of a kind, and one of its lines with it, both marked."""
    value = kind.make(chance)
    lines = kind.held_out if held_out and kind.held_out else kind.lines
    line = lines[number % len(lines)].replace("{field}", kind.field).replace("{id}", v.aws_id(chance))
    return value, line.replace("{}", value, 1)
