"""Content of a message: a string, or a list of parts (text, images, audio, files and kinds to come).

A part that is not text becomes a placeholder line and an attachment. Its data is neither decoded nor copied here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from converra.history.turn import Attachment
from converra.integrations.payload.extras import kept, unread
from converra.integrations.payload.fields import fields, items, string
from converra.integrations.payload.media import attachment, data_mime, encodings, placeholder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_TEXTS = ("text", "input_text", "output_text")

SILENT = ("reference", "tool_reference")
"""Parts that cite a source of the text around them: no line stands for them."""

TEXT_PART = frozenset({"type", "text", "refusal", "annotations", "logprobs"})
"""Fields of a text part that are read, or left out on purpose."""


class Content(NamedTuple):
    """The content of a message. `reasoning` is kept apart from its text."""

    text: str
    attachments: tuple[Attachment, ...] = ()
    refusal: bool = False
    reasoning: tuple[str, ...] = ()


def content(value: Any, glue: str = "\n") -> Content:
    """Read a message's content; `glue` joins its text parts (an answer's parts are one text cut into pieces)."""
    if isinstance(value, str):
        return Content(value)
    parts = items(value)
    if len(parts) == 1:  # nearly all lists are one text
        own = fields(parts[0])
        if own.get("type") in _TEXTS and isinstance(own.get("text"), str):
            return Content(own["text"])
    found = _Parts()
    for part in parts:
        _read(part, found)
    return found.content(glue)


def one_text(value: Any) -> str | None:
    """Return the text of a content that is one text and nothing else, which has no annotations; else None."""
    if value.__class__ is str:
        return value
    parts = items(value)
    own = fields(parts[0]) if len(parts) == 1 else {}
    plain = (
        own.get("type") in _TEXTS and own.keys() <= TEXT_PART and not (own.get("annotations") or own.get("logprobs"))
    )
    return string(own.get("text")) if plain else None


class _Parts:
    """The parts read so far, in order."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, bool]] = []
        """Text, and whether it stands on a line of its own."""
        self.attachments: list[Attachment] = []
        self.refusal: bool = False
        self.reasoning: list[str] = []

    def attach(self, attached: Attachment) -> None:
        self.attachments.append(attached)
        self.lines.append((placeholder(attached), True))

    def content(self, glue: str) -> Content:
        text = _joined(self.lines, glue)
        return Content(text, tuple(self.attachments), self.refusal, tuple(self.reasoning))


def _joined(lines: list[tuple[str, bool]], glue: str) -> str:
    text, alone = lines[0] if lines else ("", False)
    for line, own_line in lines[1:]:
        text += ("\n" if own_line or alone else glue) + line
        alone = own_line
    return text


def _read(part: Any, found: _Parts) -> None:
    if isinstance(part, str):
        found.lines.append((part, False))
        return
    own = fields(part)
    kind = _kind(own)
    reader = _READERS.get(kind)
    if reader is None:
        _other(kind, own, found)
    else:
        reader(own, found)


def _other(kind: str, part: dict[str, Any], found: _Parts) -> None:
    """Attach a part of an unknown kind if it holds media; else name its kind."""
    media = None if kind in SILENT else attachment(part)
    spoken = string(part.get("transcript")) if media else None
    if kind in SILENT:
        return
    if media is None:
        found.lines.append((f"[{kind}]", True))
    elif spoken:  # as for an audio answer: its words stand for it
        found.attachments.append(media)
        found.lines.append((spoken, True))
    else:
        found.attach(media)


def _text(part: dict[str, Any], found: _Parts) -> None:
    found.lines.append((string(part.get("text")) or "", False))


def _refusal(part: dict[str, Any], found: _Parts) -> None:
    found.refusal = True
    found.lines.append((string(part.get("refusal")) or "", False))


def _thinking(part: dict[str, Any], found: _Parts) -> None:
    thought = part.get("thinking") or part.get("reasoning") or part.get("text")
    text = content(thought, "").text
    if text:
        found.reasoning.append(text)


def _image(part: dict[str, Any], found: _Parts) -> None:
    found.attach(linked("image", part, "image_url"))


def _audio(part: dict[str, Any], found: _Parts) -> None:
    given = part.get("input_audio")
    if isinstance(given, str):  # Mistral's: base64, or an address
        is_address = "://" in given[:16] and not given.startswith("data:")
        found.attach(
            Attachment("audio", data_mime(given), None if is_address else given, given if is_address else None)
        )
        return
    audio = fields(given)
    style = string(audio.get("format"))
    found.attach(Attachment("audio", f"audio/{style}" if style else None, string(audio.get("data"))))


def _video(part: dict[str, Any], found: _Parts) -> None:
    found.attach(linked("video", part, "video_url"))


def _document(part: dict[str, Any], found: _Parts) -> None:
    found.attach(linked("document", part, "document_url"))


def _file(part: dict[str, Any], found: _Parts) -> None:
    own = fields(part.get("file")) or part
    data = string(own.get("file_data"))
    name = string(own.get("filename")) or string(own.get("file_id"))
    found.attach(Attachment("file", data_mime(data), data, string(own.get("file_url")), name))


_READERS: dict[str, Callable[[dict[str, Any], _Parts], None]] = {
    "text": _text,
    "input_text": _text,
    "output_text": _text,
    "summary_text": _text,
    "refusal": _refusal,
    "thinking": _thinking,
    "reasoning": _thinking,
    "reasoning_text": _thinking,
    "image_url": _image,
    "input_image": _image,
    "computer_screenshot": _image,
    "input_audio": _audio,
    "video_url": _video,
    "document_url": _document,
    "file": _file,
    "input_file": _file,
}


def text_extras(parts: Iterable[Any]) -> dict[str, Any]:
    """Collect the unread fields of text parts."""
    found: dict[str, Any] = {}
    for part in parts:
        own = fields(part)
        if own.get("type") in ("text", "output_text"):
            found.update(unread(own, TEXT_PART))
    return found


def unknown(parts: Any) -> list[Any]:
    """Collect the parts of unknown kinds for an answer's metadata, without their data."""
    strange = [own for part in items(parts) if (own := fields(part)) and not known(_kind(own))]
    found = ((own, attachment(own)) for own in strange)
    return [kept(own, encodings((media,) if media else ())) for own, media in found]


def _kind(own: dict[str, Any]) -> str:
    return string(own.get("type")) or ("text" if own.get("text") is not None else "part")


def known(kind: str) -> bool:
    """Return True if parts of this kind are read, not only named."""
    return kind in _READERS


def linked(kind: str, part: dict[str, Any], key: str) -> Attachment:
    """Read a part with a URL, as a string or `{"url": …}`: a data URL, an address, or only a file id."""
    value = part.get(key)
    url = string(value) or string(fields(value).get("url")) or ""
    name = string(part.get("file_id")) or string(part.get("document_name"))
    if url.startswith("data:"):
        return Attachment(kind, data_mime(url), url, None, name)
    return Attachment(kind, None, None, url or None, name)
