"""A file of providers with one of every kind, as a shop writes it; whatever is secret in it says so."""

from functools import cache

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

SECRET = "hidden"
"""Stands in every secret of the file but the keys in PEM, which say PRIVATE KEY."""

TOKEN = f"{SECRET}-callback-token-of-a-provider"


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@cache
def every_kind() -> dict[str, str]:
    """What stands in the table of each kind besides name and kind."""
    curve = _pem(ec.generate_private_key(ec.SECP256R1()))
    whole = _pem(rsa.generate_private_key(65537, 2048))
    return {
        "alibaba": f'access_key_id = "id"\naccess_key_secret = "{SECRET}1"\nsign = "叮咚"\nref_key = "{SECRET}2222"\nsecurity_token = "{SECRET}3"',
        "apns": f"team_id = \"TEAM000001\"\nkey_id = \"KEY0000001\"\ntopic = \"shop\"\nprivate_key = '''{curve}'''",
        "apprise": f'urls = {{ sms = "json://user:{SECRET}@localhost/{{to}}" }}',
        "fcm": f"[provider.service_account]\nproject_id = \"shop\"\nclient_email = \"a@b.example\"\nprivate_key = '''{whole}'''",
        "jpush": f'app_key = "key"\nmaster_secret = "{SECRET}1"',
        "mail": f"host = \"localhost\"\nfrom_address = \"notice@shop.example\"\nusername = \"shop\"\npassword = \"{SECRET}1\"\nbounce_domain = \"b.shop.example\"\nbounce_key = \"{SECRET}-of-sixteen-or-more\"\n[[provider.dkim]]\ndomain = \"shop.example\"\nselector = \"s\"\nprivate_key = '''{whole}'''",
        "smpp": f'host = "localhost"\nsystem_id = "shop"\npassword = "{SECRET}"',
        "staff": f'[provider.robots.ops]\nkind = "dingtalk"\nurl = "https://localhost/robot/send?access_token={SECRET}1"\nsecret = "{SECRET}2"',
        "tencent": f'secret_id = "{SECRET}1"\nsecret_key = "{SECRET}2"\nsdk_app_id = "1400000000"',
        "twilio": f'account_sid = "AC1"\nauth_token = "{SECRET}1"\nsender = "+15005550006"\napi_key = "SK1"\napi_secret = "{SECRET}2"\ncallback_url = "https://bell.example/v1/callbacks/twilio/{SECRET}3"\nshared_keys = {{ k = "{SECRET}4" }}',
        "webhook": 'secrets = ["whsec_aGlkZGVuLWhpZGRlbi1oaWRkZW4taGlkZGVu"]\nendpoints = { "https://shop.example" = ["whsec_aGlkZGVuLWhpZGRlbi1oaWRkZW4taGlkZGVu"] }',
        "webpush": f"vapid_private_key = '''{curve}'''\nsubject = \"mailto:a@b.example\"",
        "wechat": f'appid = "wx1"\nsecret = "{SECRET}1"\nmessage_token = "{SECRET}2"\nencoding_aes_key = "{SECRET}' + "a" * 37 + '"',
    }  # fmt: skip


SECRETS = (SECRET, "PRIVATE KEY", "aGlkZGVu")
"""What must never be shown of them."""


def table(kind: str, **common: str) -> str:
    """The table of one provider; `common` are further lines of it."""
    lines = "".join(f"{name} = {value}\n" for name, value in common.items())
    return f'[[provider]]\nname = "p_{kind}"\nkind = "{kind}"\n{lines}{every_kind()[kind]}\n'
