"""What may be shown and stored of a URI: credentials stripped, control characters escaped."""

import re
import unicodedata
from urllib.parse import parse_qsl, urlencode, urlsplit

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://[^\s'\"<>]+")
_SECRET = re.compile(
    r"^(x-amz-.*|x-goog-.*|x-oss-.*|awsaccesskeyid|googleaccessid|ossaccesskeyid|signature|sig|se|sp|sv|sr|"
    r"st|spr|sip|skoid|sktid|skt|ske|sks|skv|expires|policy|key-pair-id|.*(token|secret|password|passwd|"
    r"credential|api_?key|access_?key|auth).*|key|pwd)$",
    re.IGNORECASE,
)
_WEB = ("http", "https", "ftp", "webdav", "webhdfs")


def scheme_of(uri: str) -> str:
    """Return the scheme of ``uri`` in lower case, ``""`` for a plain path."""
    match = re.match(r"([A-Za-z][A-Za-z0-9+.\-]*)://", uri)
    return match.group(1).lower() if match else ""


def strip_credentials(uri: str) -> str:
    """Remove user names, passwords, signatures and tokens from a URI.

    Web addresses lose their whole query, since a signed link is a credential. Other schemes
    keep their query except for parameters whose names mean a secret, because ``?`` is a legal
    character of an object's name. Plain paths come back as they are. Bytes of a file name that are
    not UTF-8 become backslash escapes, so that the result can always be stored.
    """
    text = uri.encode("utf-8", "backslashreplace").decode("utf-8")
    scheme = scheme_of(text)
    if not scheme or scheme in ("file", "local", "memory"):
        return text
    prefix, rest = text.split("://", 1)
    host, slash, path = rest.partition("/")
    if scheme in ("s3", "s3a") and ":" in host and not host.startswith("arn:") and "@" in path:
        # Secret keys of S3 may hold a slash, and a bucket's name no colon.
        host, slash, path = rest.rpartition("@")[2].partition("/")
    host = host.rpartition("@")[2]
    if scheme in _WEB:
        path = re.split(r"[?#]", path, maxsplit=1)[0]
        host = re.split(r"[?#]", host, maxsplit=1)[0]
    elif "?" in path:
        path = _clean_query(path)
    return f"{prefix}://{host}{slash}{path}"


def _clean_query(path: str) -> str:
    head, _, query = path.rpartition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    if not any(_SECRET.match(name) for name, _ in pairs):
        return f"{head}?{query}"
    kept = [(name, value) for name, value in pairs if not _SECRET.match(name)]
    return f"{head}?{urlencode(kept)}" if kept else head


def strip_text(text: str) -> str:
    """Strip the credentials of every URI inside a free text, such as an error message."""
    return _URL.sub(lambda match: strip_credentials(match.group()), text)


def display_text(text: str, limit: int = 200) -> str:
    """Make external text safe for a terminal.

    Control characters, line ends, direction overrides and lone surrogates become escapes; text
    longer than ``limit`` characters is cut in the middle.
    """
    shown = "".join(c if _printable(c) else _escape(c) for c in text)
    if len(shown) <= limit:
        return shown
    half = (limit - 1) // 2
    return f"{shown[:half]}…{shown[len(shown) - (limit - 1 - half) :]}"


def _printable(character: str) -> bool:
    return character == " " or unicodedata.category(character)[0] not in "CZ"


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii") if ord(character) != 0xA0 else " "


def relative_id(uri: str, folder: str) -> str:
    """Return where ``uri`` lies below ``folder`` (without a leading slash).

    A URI outside of ``folder`` gives its path without the scheme.
    """
    base = folder.rstrip("/") + "/"
    if uri.startswith(base):
        return uri[len(base) :]
    if scheme_of(uri) in _WEB:
        parts = urlsplit(uri)
        return (parts.netloc.rpartition("@")[2] + parts.path).strip("/")
    return uri.split("://", 1)[-1].strip("/")
