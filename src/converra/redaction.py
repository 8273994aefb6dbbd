"""Redaction: ready-made functions for the setting `redact`, which withhold personal data and secrets.

========  ==============================================================================================
kind      found
========  ==============================================================================================
secret    keys and tokens of well-known forms, JSON web tokens, private keys, `Bearer …`, `password=…`
email     addresses
iban      account numbers whose check digits are right
card      numbers of 13 to 19 digits that begin and check as payment cards do (Luhn)
ip        IPv4 and IPv6 addresses
phone     `+` or `00` and a country, or an area code that is set apart
========  ==============================================================================================

Patterns find what has a form. They find no names and no street addresses, and now and then take a number for what it is
not.
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
    from collections.abc import Callable

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
    | (?<=\bBearer\ )[\w.~+/=-]{12,}
    | (?<=\bBasic\ )[\w+/=-]{16,}
    """,
    re.VERBOSE | re.DOTALL,
)
_ASSIGNED = re.compile(
    r"""(\b(?:api[_-]?key|access[_-]?key|secret|password|passwd|pwd|token)\b["']?\s{0,3}[:=]\s{0,3}["']?)([^\s"',;]{6,})""",
    re.IGNORECASE,
)
_EMAIL = re.compile(r"(?<![\w.+%-])[\w.+%-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}(?![\w-])")
_IBAN = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?:\ ?[A-Z0-9]{4}){2,7}(?:\ ?[A-Z0-9]{1,3})?(?!\w)")
_CARD = re.compile(r"(?<![\w.-])[2-6]\d{3}(?:[ -]?\d){9,15}(?![\w-])")
_IP = re.compile(r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4})(?![\w:]|\.\d)")
_PHONE = re.compile(
    r"""
    (?<![\w.+-])(?:
        (?:\+|00)\ ?[1-9](?:[ ./-]?\(?\d\)?){6,14}
      | \(\d{2,5}\)[ ]?\d(?:[ ./-]?\d){4,10}
      | \d{3}[ .-]\d{3}[ .-]\d{4}
      | 0\d{1,5}[ /-]\d(?:[ -]?\d){4,9}
    )(?![\w-])
    """,
    re.VERBOSE,
)

_LABEL = re.compile(rf"\[({'|'.join(KINDS)}):([\w-]{{22,}})\]")
_LABEL_OR_KIND = re.compile(rf"\[({'|'.join(KINDS)})(?::[\w-]{{22,}})?\]")
_SHORTEST_KEY = 8


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

    def _clean(self, value: Any, found: dict[str, int]) -> Any:
        if isinstance(value, str):
            return self._text(value, found)
        if isinstance(value, dict):
            return {
                self._text(name, found): each if name in _IDENTIFIERS else self._clean(each, found)
                for name, each in value.items()
            }
        if isinstance(value, list | tuple):
            return [self._clean(each, found) for each in value]
        return value

    def _text(self, text: str, found: dict[str, int]) -> str:
        for finder in _FINDERS:

            def replaced(match: re.Match[str], finder: _Finder = finder) -> str:
                value = match.group(finder.group)
                if finder.holds is not None and not finder.holds(value):
                    return match.group()
                found[finder.kind] += 1
                return match.group()[: match.start(finder.group) - match.start()] + self._replace(finder.kind, value)

            text = finder.pattern.sub(replaced, text)
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


def _checks_as_card(text: str) -> bool:
    """Check the last digit by Luhn's rule."""
    digits = [int(digit) for digit in text if digit.isdigit()]
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]  # noqa: PLR2004 - two digits are added up
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _checks_as_iban(text: str) -> bool:
    """Check the two check digits (ISO 13616)."""
    plain = text.replace(" ", "")
    return int("".join(str(int(each, 36)) for each in plain[4:] + plain[:4])) % 97 == 1


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return any(each.isdigit() for each in text)  # `C::D` is code


class _Finder(NamedTuple):
    """Pattern of one kind: `group`, up to the end of a match, is replaced if it `holds` what its form promises."""

    kind: str
    pattern: re.Pattern[str]
    holds: Callable[[str], bool] | None = None
    group: int = 0


_FINDERS = (
    _Finder("secret", _SECRET),
    _Finder("secret", _ASSIGNED, group=2),
    _Finder("email", _EMAIL),
    _Finder("iban", _IBAN, _checks_as_iban),
    _Finder("card", _CARD, _checks_as_card),
    _Finder("ip", _IP, _is_address),
    _Finder("phone", _PHONE),
)
