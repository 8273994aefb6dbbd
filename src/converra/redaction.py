"""Redaction: ready-made functions for the setting `redact`, which withhold personal data and secrets.

========  ==============================================================================================
kind      found
========  ==============================================================================================
secret    keys and tokens of well-known forms, JSON web tokens, private keys, `Bearer …`, `password=…`, signed links
email     addresses
iban      account numbers whose check digits are right
card      numbers of 13 to 19 digits that begin and check as payment cards do (Luhn)
ip        IPv4 and IPv6 addresses; no version, where the words before it or the name of its field say so
phone     `+` or `00` and a country, or an area code that is set apart
========  ==============================================================================================

Digits may be those of any script, with spaces and hyphens of any kind between them. Patterns find what has a form. They
find no names and no street addresses, and now and then take a number for what it is not.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import ipaddress
import re
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from converra.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Pseudonyms", "Redaction", "pseudonyms", "standard"]

KINDS = ("secret", "email", "iban", "card", "ip", "phone")
"""The kinds of what is found, in the order in which they are looked for."""

_IDENTIFIERS = frozenset({"messageId", "traceId", "spanId", "sha256", "runId", "replaces", "continues", "thread"})
"""Metadata that identifies a message or a part of it, and is made up by programs."""

_SECRET = re.compile(
    r"""
    -----BEGIN\ [A-Z ]{0,20}PRIVATE\ KEY-----.*?(?:-----END\ [A-Z ]{0,20}PRIVATE\ KEY-----|\Z)
    | (?<![\w-])(?:
        (?:sk|pk|rk)[-_][\w-]{16,}
      | gh[pousr]_\w{30,} | github_pat_\w{20,} | glpat-[\w-]{16,}
      | xox[abeoprs]-[\w-]{10,}
      | A(?:KI|SI)A[0-9A-Z]{16}
      | AIza[\w-]{30,}
      | (?:hf|npm|pypi|dop_v1|shpat|SG|gsk|xai)[-_.][\w.-]{20,}
      | eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*
    )(?![\w-])
    """,
    re.VERBOSE | re.DOTALL,
)
_AUTHORIZATION = re.compile(
    r"[Bb](?<!\w.)(?:(?<=B)(?:earer|asic(?=\ [\w+/=-]{16}))|(?<=b)earer(?=\ [A-Za-z.~+/=_-]*\d))\ ([\w.~+/=-]{12,})"
)
_KEYS = ("api", "access", "account", "auth", "encryption", "master", "private", "secret", "shared", "signing")
_ASSIGNED = re.compile(
    rf"""
    ([KkPpSsTt](?i:  # first a set of characters: a search skips all others quickly
        (?:{"|".join(rf"(?<={each}k) | (?<={each}[_-]k)" for each in _KEYS)})ey
      | (?<=s)ecret | (?<=p)assw(?:or)?d | (?<=p)assphrase | (?<=p)wd | (?<=t)oken
    )\b["']?\s{{0,3}}[:=]\s{{0,3}}["']?)
    (?!\[secret\])([^\s"',;]{{6,}})
    """,
    re.VERBOSE,
)
_SIGNATURE = re.compile(r"[?&](?:sig|key|[\w-]{0,40}signature)=(?!\[secret\])([^\s&#\"'<>]{8,})", re.IGNORECASE)
_PASSWORD = re.compile(r"://[^\s:/@]{0,64}:([^\s/@]{1,256})(?=@)")
_EMAIL = re.compile(
    r"(?<![\w.+%-])[\w.+%-][\w.+%'&-]{0,63}(?:@|%40)(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}(?![\w-])", re.IGNORECASE
)
_SPACES = " \u00a0\u2000-\u200f\u202f\u205f\u2060\u3000\ufeff"
_APART = rf"{_SPACES}\u00ad\u2010-\u2015\u2212\ufe58\ufe63\uff0d-"
"""Spaces of any width, none included, and hyphens: texts that were copied from pages and documents have them."""
_BETWEEN = r".\u00b7\u2022\u2024\uff0e/_"
"""Characters between the usual groups of a card; in other places numbers and dates have them."""
_IBAN = re.compile(rf"[A-Za-z](?<!\w.)[A-Za-z]\d\d(?:[.{_APART}]{{0,2}}[A-Za-z0-9]){{11,30}}")
_IBAN_LENGTHS = """
AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 ES24 FI18
FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20
LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24
SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30
"""
_CHARACTERS = {each[:2]: int(each[2:]) for each in _IBAN_LENGTHS.split()}
"""Length of the account numbers of a country (IBAN registry): the code of the bank may follow one."""
_CARD = re.compile(
    rf"""
    \d(?<![\w-].)(?<!\d[.,].)\d{{3}}(?:
        (?:[{_APART}]{{0,3}}\d){{9,15}}
      | (?P<four>[{_BETWEEN}])\d{{4}}(?P=four)\d{{4}}(?P=four)\d{{4}}
      | (?P<six>[{_BETWEEN}])\d{{6}}(?P=six)\d{{4,5}}
    )(?![\w-])
    """,
    re.VERBOSE,
)
_CARD_BEFORE = re.compile(
    rf"\d{{4}}(?:([{_APART}]{{1,3}})\d{{4}}\1\d{{4}}\1\d{{4}}|([{_APART}]{{1,3}})\d{{6}}\2\d{{4,5}}|\d{{9,15}})(?!\d)"
)
"""A card in its usual groups, before other numbers: its date, or its code."""
_IPV6 = re.compile(
    r"""
    [0-9A-Fa-f:](?<![\w.:].)(?:(?<=:)|[0-9A-Fa-f]{0,3}:)(?:[0-9A-Fa-f]{0,4}:){1,6}
    (?:\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f]{0,4})(?![\w:]|\.\d)
    """,
    re.VERBOSE,
)
_IPV4 = re.compile(r"\d(?<![\w.].)\d{0,2}(?:[.\uff0e]\d{1,3}){3}(?!\w|\.\d)")
_VERSION_BEFORE = re.compile(
    r"""
    (?:
        (?: (?<![A-Za-z])(?i:version(?:e|s|en|er)?|versi[oó]n|versão|ver\.|revision|section|chapter|clause)
          | (?<=[a-z])Versions? | версия | 版本 | バージョン | § )
        (?:[ ](?:is|was|number|no))?[.]?["']?[ ]{0,2}[:=]{0,2}[ ]{0,2}["'(]?
      | (?<![\w./:@-])(?:Version|(?:Headless)?Chrome|Chromium|CriOS|Edg(?:e|A|iOS)?|OP(?:R|iOS)|Opera|Safari|Firefox
          | FxiOS|Electron|YaBrowser|Vivaldi|Brave|SamsungBrowser|UCBrowser|Whale|AppleWebKit)/
      | (?<![\w./:@-])(?i:openssl|libressl|boringssl|gnutls|openjdk|jdk|jre|chromedriver|geckodriver)[ ]
    )\Z
    """,
    re.VERBOSE,
)
"""Words that stand before a version and never before an address: one for it, or a program that is no host.

In other languages `vers`, `ver` and `release` stand before addresses as well, and so do names of servers.
"""
_PORT_OR_MASK = re.compile(r"[:/]\d")
_CONTEXT = 40
"""Characters before a match that are looked at."""

_PHONE = re.compile(
    rf"""
    (?<![\w.+-])(?:
        (?:[+\uff0b]|00)[{_SPACES}]?[1-9\uff11-\uff19](?:[./{_APART}]{{0,2}}\(?\d\)?){{6,14}}
      | \(\d{{2,5}}\)[{_SPACES}]?\d(?:[./{_APART}]?\d){{4,10}}
      | \d{{3}}[.{_APART}]\d{{3}}[.{_APART}]\d{{4}}
      | 0\d{{1,5}}[/{_APART}]\d(?:[{_APART}]?\d){{4,9}}
    )(?![\w-])
    """,
    re.VERBOSE,
)

_LABEL = re.compile(rf"\[({'|'.join(KINDS)}):([\w-]{{22,}})\]")
_LABEL_OR_KIND = re.compile(rf"\[({'|'.join(KINDS)})(?::[\w-]{{22,}})?\]")
_SHORTEST_KEY = 8
_CARDS_BEGIN = range(2, 7)


class Redaction:
    """A function for `redact` that replaces what it finds, and counts it by kind. Any thread may call it.

    It looks at the content of a message, at the arguments and results of tools, and at the metadata of the message.
    The metadata of a conversation is not passed to `redact`.

    """

    def __init__(self, replace: Callable[[str, str], str]) -> None:
        self._replace = replace
        self._found: dict[int, dict[str, int]] = {}
        """Counts of each thread, by its identifier: a lock could be held by another thread while the process forks."""

    @property
    def withheld(self) -> dict[str, int]:
        """The number of replacements so far, by kind; `converra.stats().withheld` has them as well."""
        threads = list(self._found.values())
        sums = {kind: sum(found[kind] for found in threads) for kind in KINDS}
        return {kind: number for kind, number in sums.items() if number}

    def __call__(self, message: dict[str, Any]) -> dict[str, Any]:
        """Return the message with everything replaced that was found."""
        found = self._found.setdefault(threading.get_ident(), dict.fromkeys(KINDS, 0))
        changed = dict(message)
        for name in ("content", "toolCalls", "metadata"):
            if name in message:
                changed[name] = self._clean(message[name], found)
        return changed

    def _clean(self, value: Any, found: dict[str, int], field: str = "") -> Any:
        if isinstance(value, str):
            return self._text(value, found, field)
        if isinstance(value, dict):
            return {
                self._text(name, found): each if name in _IDENTIFIERS else self._clean(each, found, field=name)
                for name, each in value.items()
            }
        if isinstance(value, list | tuple):
            return [self._clean(each, found, field) for each in value]
        return value

    def _text(self, text: str, found: dict[str, int], field: str = "") -> str:
        for finder in _FINDERS:
            parts: list[str] = []
            done = 0
            for start, end in finder.places(text, field):
                found[finder.kind] += 1
                parts += text[done:start], self._replace(finder.kind, text[start:end])
                done = end
            if parts:
                text = "".join((*parts, text[done:]))
        return text


def standard() -> Redaction:
    """Return a function for `redact` that withholds personal data and secrets.

    It leaves the kind in their place: `[email]`, `[card]`, `[secret]`.

    Returns:
        The function, for `converra.instrument(redact=...)`.

    Example::

        converra.instrument(redact=redaction.standard())

    """
    return Redaction(lambda kind, _value: f"[{kind}]")


def pseudonyms(key: str | bytes) -> Pseudonyms:
    """Return a function for `redact` that puts tokens in place of personal data; the holder of the key reads them.

    The same value has the same token in every process, so a conversation stays readable: `[email:3q2+7w…]` is one
    person throughout. The tokens are encrypted values (AES-SIV): nothing is stored. Secrets are withheld, not
    encrypted. Needs the extra `pseudonyms`.

    Args:
        key: A secret of yours, of 8 characters or more. With it, anybody can read what was withheld.

    Returns:
        The function; its `reveal(text)` turns tokens back.

    Raises:
        InvalidArgumentError: The key is too short, or no text or bytes.
        ImportError: The extra is not installed.

    Example::

        converra.instrument(redact=redaction.pseudonyms(os.environ["PSEUDONYM_KEY"]))

    """
    return Pseudonyms(key)


class Pseudonyms(Redaction):
    """Puts tokens in place of what it finds, and turns them back; see `pseudonyms`."""

    def __init__(self, key: str | bytes) -> None:
        given: Any = key
        if not isinstance(given, str | bytes) or len(given) < _SHORTEST_KEY:
            raise InvalidArgumentError(f"the key of pseudonyms must be text of {_SHORTEST_KEY} characters or more")
        try:
            from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - of an extra
            from cryptography.hazmat.primitives.ciphers.aead import AESSIV  # noqa: PLC0415
        except ImportError as error:
            raise ImportError('pseudonyms need the extra: pip install "converra[pseudonyms]"') from error
        secret = key.encode() if isinstance(key, str) else key
        self._cipher = AESSIV(hashlib.scrypt(secret, salt=b"converra.redaction", n=2**14, r=8, p=1, dklen=64))
        self._unreadable = InvalidTag
        super().__init__(self._token)

    def reveal(self, text: str) -> str:
        """Return a text with the tokens of this key turned back; others stay."""
        return _LABEL.sub(self._value, text)

    def _token(self, kind: str, value: str) -> str:
        if kind == "secret":
            return f"[{kind}]"
        sealed = self._cipher.encrypt(value.encode("utf-8", "replace"), [kind.encode()])
        return f"[{kind}:{base64.urlsafe_b64encode(sealed).decode().rstrip('=')}]"

    def _value(self, match: re.Match[str]) -> str:
        kind, sealed = match.groups()
        try:
            raw = base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4))
            return self._cipher.decrypt(raw, [kind.encode()]).decode()
        except (self._unreadable, binascii.Error, ValueError):
            return match.group()


def kinds_in(text: str) -> list[str]:
    """Return the kind of each replacement in a recorded text."""
    return _LABEL_OR_KIND.findall(text)


def _whole(text: str, _before: str, _after: str) -> int:
    return len(text)


def _card(text: str, _before: str, _after: str) -> int:
    """Return the length of the card number at the beginning of a text; 0 if there is none."""
    if _checks_as_card(text):
        return len(text)
    usual = _CARD_BEFORE.match(text)
    return usual.end() if usual and _checks_as_card(usual[0]) else 0


def _checks_as_card(text: str) -> bool:
    """Check the first digit, and the last one by Luhn's rule."""
    digits = [int(digit) for digit in text if digit.isdecimal()]
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]  # noqa: PLR2004 - two digits are added up
    return digits[0] in _CARDS_BEGIN and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _iban(text: str, _before: str, _after: str) -> int:
    """Return the length of an account number whose two check digits are right (ISO 13616); 0 for another."""
    places = [at for at, each in enumerate(text) if each.isalnum()]
    count = _CHARACTERS.get(text[:2].upper(), len(places) + 1)
    if count > len(places):
        return 0
    end = places[count - 1] + 1
    plain = "".join(text[at] for at in places[4:count]) + text[:4]
    goes_on = text[end : end + 1].isalnum()
    return 0 if goes_on or int("".join(str(int(each, 36)) for each in plain)) % 97 != 1 else end


def _address(text: str, before: str, after: str) -> int:
    """Return the length of an address; 0 for a version, and for what is no address."""
    plain = "".join(str(int(each)) if each.isdecimal() else each for each in text).replace("\uff0e", ".")
    if ":" not in plain:
        plain = ".".join(str(int(part)) for part in plain.split("."))  # zeros may fill it up: 010.000.000.001
    try:
        ipaddress.ip_address(plain)
    except ValueError:
        return 0
    if ":" not in plain and _VERSION_BEFORE.search(before) and not _PORT_OR_MASK.match(after):
        return 0
    return len(text) if any(each.isdigit() for each in plain) else 0  # `C::D` is code


_WINDOW = 64 * 1024
"""Characters that one search looks at: it holds the interpreter's lock, and so the threads of the app."""

_MARGIN = 1024
"""Characters before the end of a window in which a match may be cut off. Longer matches have no spaces in them."""


class _Finder(NamedTuple):
    """Pattern of one kind: `group`, up to the end of a match, is replaced, as far as it `holds` what it looks like."""

    kind: str
    pattern: re.Pattern[str]
    holds: Callable[[str, str, str], int] = _whole
    """Gets what was found, what stands before it, and the two characters after it."""
    group: int = 0

    def places(self, text: str, field: str = "") -> Iterator[tuple[int, int]]:
        """Find what is to be replaced in the text of a field, in windows that end between words."""
        at, size = 0, _WINDOW
        while True:
            end = min(at + size, len(text))
            match = self.pattern.search(text, at, end)
            if match is None and end == len(text):
                return
            if match is not None and (end == len(text) or match.end() <= end - _MARGIN):
                start = match.start(self.group)
                stop = match.end(self.group)
                context = text[max(0, start - _CONTEXT) : start] if start else f"{field}:"[-_CONTEXT:]
                length = self.holds(match[self.group], context, text[stop : stop + 2])
                if length:
                    yield start, start + length
                at, size = (start + length if length else match.start() + 1), _WINDOW
                continue
            before = end - _MARGIN if match is None else match.start()
            gap = max(text.rfind(" ", at + 1, before), text.rfind("\n", at + 1, before))
            at, size = (at, size * 2) if gap < 0 else (gap, _WINDOW)


_FINDERS = (
    _Finder("secret", _SECRET),
    _Finder("secret", _AUTHORIZATION, group=1),
    _Finder("secret", _ASSIGNED, group=2),
    _Finder("secret", _SIGNATURE, group=1),
    _Finder("secret", _PASSWORD, group=1),
    _Finder("email", _EMAIL),
    _Finder("iban", _IBAN, _iban),
    _Finder("card", _CARD, _card),
    _Finder("ip", _IPV6, _address),
    _Finder("ip", _IPV4, _address),
    _Finder("phone", _PHONE),
)
