"""Ready-made redaction: what it finds, what it leaves, and who can turn it back."""

from __future__ import annotations

import json
import random
import string
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from converra import redaction
from converra.capture.recorder import Recorder
from converra.config import load
from converra.errors import InvalidArgumentError
from converra.server.run import serve
from tests.cli.recorded import printed, ran, record
from tests.patience import LONG

if TYPE_CHECKING:
    from pathlib import Path

KEY = "correct horse battery"

FOUND = {
    "Write to a.b+c@exa-mple.co.uk, please": "Write to [email], please",
    "to jörg@münchen.de": "to [email]",
    "DE89 3704 0044 0532 0130 00 or GB82WEST12345698765432": "[iban] or [iban]",
    "4111 1111 1111 1111, 5500-0000-0000-0004 and 378282246310005": "[card], [card] and [card]",
    "from 192.168.1.10, fe80::1 and 2001:db8:0:1:1:1:1:1.": "from [ip], [ip] and [ip].",
    "+49 (0)30 1234567, 0171/1234567, (555) 123-4567": "[phone], [phone], [phone]",
    "555-123-4567 or 00441632960961": "[phone] or [phone]",
    f"sk-proj-{'a1' * 12}, ghp_{'b' * 36} AKIAIOSFODNN7EXAMPLE": "[secret], [secret] [secret]",
    "Authorization: Bearer abc.def-ghijklmnop": "Authorization: Bearer [secret]",
    "password=hunter22, 'api_key': 'abcdef12345'": "password=[secret], 'api_key': '[secret]'",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc-def": "[secret]",
    "a\n-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nb": "a\n[secret]\nb",
    "cut -----BEGIN PRIVATE KEY-----\nMIIE": "cut [secret]",
    "4111 1111 1111 1111 12/27 123, 4111111111111111 123": "[card] 12/27 123, [card] 123",
    "until 12/2027 4111-1111-1111-1111": "until 12/2027 [card]",
    "3782 822463 10005 12/27": "[card] 12/27",
    "AT61 1904 3002 3457 3201 BKAUATWW, de89370400440532013000": "[iban] BKAUATWW, [iban]",
    "http://10.0.0.1:8080/ or ::ffff:10.0.0.1": "http://[ip]:8080/ or [ip]",
    "o'neil@example.org, ?to=ann%40example.org, 'bo@example.org'": "[email], ?to=[email], '[email]'",
    "AWS_SECRET_ACCESS_KEY=wJalr/7MDENG": "AWS_SECRET_ACCESS_KEY=[secret]",
    "OPENAI_API_KEY: abcdef12": "OPENAI_API_KEY: [secret]",
    "access_token=abcdef12, clientSecret: 'abcdef12'": "access_token=[secret], clientSecret: '[secret]'",
    "redis://:hunter22@cache/0, https://x.org/a?se=1&sig=abcdefgh%3D": "redis://:[secret]@cache/0, "
    "https://x.org/a?se=1&sig=[secret]",
    "authorization: bearer abc123.def456": "authorization: bearer [secret]",
    "4111.1111.1111.1111, 3782.822463.10005 and 4111/1111/1111/1111": "[card], [card] and [card]",
    "Nr.4111\u00a01111\u202f1111\u20091111, 4111 - 1111 - 1111 - 1111": "Nr.[card], [card]",
    "4111\u20101111\u20111111\u20121111, 4111\u20131111\u20141111\u20151111": "[card], [card]",
    "4111\u22121111\u22121111\u22121111": "[card]",
    "4111\u200b1111\u200b1111\u200b1111 or 4111\ufeff1111\u00ad1111\u20601111": "[card] or [card]",
    "\uff14\uff11\uff11\uff11 " + "\uff11\uff11\uff11\uff11 " * 3 + "\u0664" + "\u0661" * 15: "[card] [card]",
    "DE89.3704.0044.0532.0130.00; DE89\u00a03704\u00a00044\u00a00532\u00a00130\u00a000": "[iban]; [iban]",
    "+49\u00a030\u202f1234567, 555\u2011123\u20114567, \uff0b49 30 1234567": "[phone], [phone], [phone]",
    "ip:10.0.0.1, at 192.168.001.010 or \uff11\uff10.0.0.\uff11": "ip:[ip], at [ip] or [ip]",
    "deployed version 1.2.3.4 to 10.0.0.5; OpenSSL 3.0.13.1:443": "deployed version 1.2.3.4 to [ip]; OpenSSL [ip]:443",
    "version 1.2.3.4/24, conversion 10.0.0.5, version on 10.0.0.5": "version [ip]/24, conversion [ip], version on [ip]",
    "redis 10.0.0.5, nginx 3.0.13.1, chrome 10.0.0.5, release 10.0.0.5": "redis [ip], nginx [ip], chrome [ip], "
    "release [ip]",
    "rediriger vers 10.0.0.5, ver 10.0.0.5, v 10.0.0.5, outside/203.0.113.5": "rediriger vers [ip], ver [ip], v [ip], "
    "outside/[ip]",
    "https://example.org/Chrome/10.0.0.5 IP version 4: 10.0.0.5": "https://example.org/Chrome/[ip] IP version 4: [ip]",
}

LEFT = [
    "",
    "550e8400-e29b-41d4-a716-446655440000",
    "on 2026-01-20T14:30:00Z, at 12:30:45, for 1,234.56 EUR",
    "order 4111111111111112, at 1700000000000, ISBN 978-3-16-148410-0",
    "version 1.2.3.4.5 of 999.1.1.1, C::D, a::b::c",
    "GB00WEST12345698765432",
    "me@localhost, @name, a@b",
    "the password is secret; tokens: 12; monkey: banana; the bearer representative",
    "de12 and some more words that go on, AT00 1904 3002 3457 3201",
    "the lone half \ud800 of an emoji",
    "version 1.2.3.4, v1.2.3.4, Version: 1.2.3.4, versions 1.2.3.4, version is 1.2.3.4, ver. 1.2.3.4",
    "openssl 3.0.13.1 and OpenSSL 3.0.13.1, built by JDK 17.0.2.1, driven by chromedriver 1.2.3.4",
    "Mozilla/5.0 (X11) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36 Edg/120.0.0.0",
    '{"version": "1.2.3.4", "appVersion": "1.2.3.4", "sdk_version":"1.2.3.4"} VERSION=1.2.3.4',
    "section 1.2.3.4, § 1.2.3.4, die Version 1.2.3.4, la versión 1.2.3.4",
    "0.4111111111111111 1,4111111111111111 4111.1111.11111111 4111.1111 1111.1111x",
    "years 2019/2020/2021/2023, from 2024.01.02 to 2025.01.02",
]


@pytest.mark.parametrize("text", FOUND)
def test_what_is_found(text: str) -> None:
    """In the content, in arguments of tools at any depth, in metadata; roles, ids and numbers stay."""
    message = {
        "role": "tool",
        "content": text,
        "toolCalls": [{"id": "call-1", "name": "mail", "arguments": {"to": [{text: text}], "n": 4111111111111111}}],
        "metadata": {"messageId": "4111111111111111", "reasoning": text, "attachments": [{"sha256": "1.1.1.1"}]},
        "latencyMs": 1.5,
    }
    before = json.dumps(message)
    expected = FOUND[text]
    assert redaction.standard()(message) == {
        "role": "tool",
        "content": expected,
        "toolCalls": [
            {"id": "call-1", "name": "mail", "arguments": {"to": [{expected: expected}], "n": 4111111111111111}}
        ],
        "metadata": {"messageId": "4111111111111111", "reasoning": expected, "attachments": [{"sha256": "1.1.1.1"}]},
        "latencyMs": 1.5,
    }
    assert json.dumps(message) == before


@pytest.mark.parametrize("text", LEFT)
def test_what_is_left(text: str) -> None:
    """What only looks like it: dates, prices, versions, order numbers, numbers whose check digits are wrong."""
    found = redaction.standard()
    assert found({"content": text}) == {"content": text}
    assert found.withheld == {}


def test_the_name_of_a_field_tells_a_version_from_an_address() -> None:
    """In arguments of tools and in metadata; the words of the value itself come first."""
    given = {"version": "1.2.3.4", "sdkVersions": ["1.2.3.4"], "server": "1.2.3.4", "conversion": "1.2.3.4"}
    cleaned = redaction.standard()({"content": "", "metadata": given | {"chrome_version": "of 10.0.0.5"}})["metadata"]
    assert cleaned == {
        "version": "1.2.3.4",
        "sdkVersions": ["1.2.3.4"],
        "server": "[ip]",
        "conversion": "[ip]",
        "chrome_version": "of [ip]",
    }


def test_pseudonyms_are_stable_and_turned_back_by_their_key_alone() -> None:
    """The same value has one token in every process; secrets are gone for good."""
    text = "a@example.org and b@example.org wrote; a@example.org used sk-abcdefghijklmnopqrstuv from 10.0.0.1"
    here, there = redaction.pseudonyms(KEY), redaction.pseudonyms(KEY.encode())
    sent = here({"content": text})["content"]
    assert there({"content": text})["content"] == sent
    words = sent.split()
    assert words[0] == words[4] != words[2]
    assert not any(value in sent for value in ("example", "10.0.0.1", "sk-"))
    assert there.reveal(sent) == text.replace("sk-abcdefghijklmnopqrstuv", "[secret]")
    assert redaction.pseudonyms("another key")({"content": sent})["content"] == sent, "tokens are left as they are"
    assert redaction.pseudonyms("another key").reveal(sent) == sent
    swapped = sent.replace("[email:", "[phone:")
    assert here.reveal(swapped) == swapped.replace(words[-1], "10.0.0.1"), "a token is of its kind"
    noise = "".join(random.choices(string.ascii_letters + string.digits + "-_", k=60))
    assert here.reveal(f"[email:{noise}]") == f"[email:{noise}]"
    for wrong in ("short", b"", 12345678, None):
        with pytest.raises(InvalidArgumentError, match="key of pseudonyms"):
            redaction.pseudonyms(wrong)  # type: ignore[arg-type]


def test_without_the_extra_pseudonyms_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """An import that fails says what to install."""
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    with pytest.raises(ImportError, match=r"converra\[pseudonyms\]"):
        redaction.pseudonyms(KEY)


def test_counting_from_many_threads() -> None:
    """No count is lost."""
    found = redaction.standard()
    threads = [
        threading.Thread(target=lambda: [found({"content": "a@b.org 10.0.0.1"}) for _ in range(200)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found.withheld == {"email": 800, "ip": 800}


def test_a_long_text_takes_time_in_proportion() -> None:
    """No text makes a pattern try again and again: ten times as long takes about ten times the steps."""
    units = ["a", "1", "1 ", "a@", "1.", ":", "+1-", "AB12 ", "-----BEGIN PRIVATE KEY-----", "eyJ", "token=", "0 "]
    units += [
        "4111 ",
        "4111.",
        "4111\u00a0",
        "4 - ",
        "\u00a0",
        "\u200b",
        "1.1.1.1 ",
        "version 1.1.1.1 ",
        "version ",
        "AB12.",
    ]
    for unit in units:
        redaction.standard()({"content": unit * 50_000})  # quadratic, it would run into the timeout of a test


def test_a_long_text_is_searched_in_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is missed or cut at their borders, wherever they are; the interpreter's lock is released between them."""
    random.seed(7)
    values = [*FOUND, *LEFT, "a" * 70, "eyJ" + "a" * 90 + "." + "b" * 90 + ".c", "token=" + "c" * 90, "\n", " "]
    text = " ".join(random.choice(values) + "x" * random.randrange(30) for _ in range(400))
    found, again = redaction.standard(), redaction.standard()
    expected = found({"content": text})["content"]
    assert again({"content": "api_key=sk-abcdefghijklmnopqrstuv"})["content"] == "api_key=[secret]"
    assert again.withheld == {"secret": 1}, "it is counted once"
    again = redaction.standard()
    for window in (128, 131, 200, 1000):
        monkeypatch.setattr(redaction, "_WINDOW", window)
        monkeypatch.setattr(redaction, "_MARGIN", 100)
        assert again({"content": text})["content"] == expected
    assert again.withheld == {kind: count * 4 for kind, count in found.withheld.items()}


def test_stats_say_what_was_withheld() -> None:
    """By kind; with a function of the app's own, there is nothing to say."""
    with serve() as server:
        settings: dict[str, Any] = {"base_url": server.base_url, "api_key": "k"}
        recorder = Recorder(load(settings | {"redact": redaction.standard()}, {}))
        with recorder.conversation("p") as conversation:
            conversation.add_message("user", "I am a@example.org, at 10.0.0.1")
            conversation.add_message(
                "assistant", "Hello a@example.org", tool_calls=[{"id": "c", "arguments": "1.1.1.1"}]
            )
            conversation.feedback(1, comment="write to b@example.org")
        assert recorder.shutdown(LONG)
        assert recorder.stats().withheld == {"email": 3, "ip": 2}
        (held,) = server.store.conversations()[0]
        assert held.metadata["feedback"]["user"]["comment"] == "write to [email]"
        assert [m["content"] for m in server.store.messages(held)][:2] == ["I am [email], at [ip]", "Hello [email]"]
        other = Recorder(load(settings | {"redact": lambda message: message}, {}))
        assert other.stats().withheld == {}
        other.shutdown(0)


def test_the_holder_of_the_key_reads_a_conversation(tmp_path: Path) -> None:
    """`show --reveal`, with the key from the environment or a prompt; without it the tokens are shown."""
    put = redaction.pseudonyms(KEY)
    messages = [put({"role": role, "content": f"mail of {role}: {role}@example.org"}) for role in ("user", "assistant")]
    db = tmp_path / "kept.db"
    shown = ("conversations", "show", record(db, messages), "--db", str(db))
    assert "example.org" not in printed(*shown)
    revealed = printed(*shown, "--reveal", "--pseudonym-key", KEY)
    assert "mail of user: user@example.org" in revealed
    told = json.loads(printed(*shown, "--reveal", "--pseudonym-key", KEY, "--json"))
    assert told["messages"][1]["content"] == "mail of assistant: assistant@example.org"
    assert "example.org" not in printed(*shown, "--reveal", "--pseudonym-key", "another key")
    for arguments, problem in (
        (("--reveal", "--web"), "leave out --web"),
        (("--reveal", "--pseudonym-key", "x"), "8 char"),
    ):
        refused = ran(*shown, *arguments)
        assert refused.exit_code != 0
        assert problem in refused.output
