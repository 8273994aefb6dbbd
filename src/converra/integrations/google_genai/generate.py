"""`generateContent`, read: requests and answers as JSON, its streams are a series of answers. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from converra.history.turn import Answer, Request, SourceMessage
from converra.integrations.google_genai.contents import GENERATE, spoken, whole
from converra.integrations.payload.extras import kept, merged, unread
from converra.integrations.payload.fields import fields, items, number, parsed, string
from converra.integrations.payload.media import embeds
from converra.integrations.payload.usage import logprobs_summary
from converra.wire.json_safe import identifier
from converra.wire.models import Usage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from converra.history.turn import Counts

_decode = msgspec.json.Decoder().decode

PLAIN_STOP = "STOP"
"""Finish reason of an answer that ended where the model wanted it to end."""

CONTINUATION = "CONTINUATION"
"""Finish reason of an answer that the SDK has continued, by a request with the token that came with it."""

RESPONSE = frozenset(
    {
        *("candidates", "promptFeedback", "usageMetadata", "modelVersion", "responseId", "createTime", "error"),
        *("sdkHttpResponse", "httpHeaders"),  # of old versions, which add the headers to an empty answer
    }
)
CANDIDATE = frozenset(
    {
        *("content", "finishReason", "index", "safetyRatings", "logprobsResult", "tokenCount", "continuationToken"),
    }
)
"""Fields of each level of an answer that are read, or left out on purpose. All others are kept in metadata."""

HARMLESS = frozenset({None, "NEGLIGIBLE", "LOW", "HARM_PROBABILITY_UNSPECIFIED"})
"""Probabilities of harm that are not recorded: every answer has such ratings."""

TOKENS = {
    "cachedContentTokenCount": "cachedTokens",
    "thoughtsTokenCount": "reasoningTokens",
    "toolUsePromptTokenCount": "toolUsePromptTokens",
}
"""Counts beside the two main ones, and their names in `metadata.usageDetails`."""

BY_MODALITY = {
    "promptTokensDetails": "prompt",
    "candidatesTokensDetails": "completion",
    "cacheTokensDetails": "cached",
    "toolUsePromptTokensDetails": "toolUsePrompt",
}
COUNTED = frozenset({*TOKENS, *BY_MODALITY, "promptTokenCount", "candidatesTokenCount", "totalTokenCount"})


def request(path: str, body: dict[str, Any]) -> Request:
    """Read a call of `{model}:generateContent` or `:streamGenerateContent`.

    A request with a continuation token brings nothing new: the SDK asks for the rest of an answer.
    """
    contents, tools = items(body.get("contents")), body.get("tools")
    continued = string(body.get("continuationToken"))
    return Request(
        GENERATE,
        () if continued else whole(contents),
        _instructions(body),
        model_name(path),
        continued,
        declared(items(tools)) if tools else (),
    )


def model_name(path: str) -> str | None:
    """Return the model that a path names; of a tuned model or an endpoint, the last two segments."""
    *_, collection, name = ("", *path.partition(":")[0].split("/"))
    return (f"{collection}/{name}" if collection in ("tunedModels", "endpoints") else name) or None


def _instructions(body: dict[str, Any]) -> str | None:
    """Return the system instruction. The provider keeps cached contents: a line names them."""
    cached, own = string(body.get("cachedContent")), fields(body.get("systemInstruction"))
    if not cached and not own:
        return None
    texts = [string(fields(part).get("text")) for part in items(own.get("parts"))]
    if len(texts) == 1 and not cached:
        return texts[0]
    return "\n".join(filter(None, (f"[cached content: {cached}]" if cached else None, *texts))) or None


def declared(tools: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the functions that a request declares, and the tools of the provider by their names."""
    found: list[dict[str, Any]] = []
    for tool in map(fields, tools):
        for kind, value in tool.items():
            functions = items(value) if kind in ("functionDeclarations", "function_declarations") else ()
            found += map(fields, functions) if functions else [{"type": kind}]
    return found


NO_COUNTS = msgspec.Raw(b"{}")


class _Part(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    text: str


class _Content(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    parts: tuple[_Part]
    role: str = "model"


class _Candidate(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    content: _Content
    index: Literal[0] = 0
    finish: str | None = msgspec.field(default=None, name="finishReason")


class Plain(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """An answer, or a chunk, of one text and nothing else, as most are: it is read at a third of the price."""

    candidates: tuple[_Candidate]
    counts: msgspec.Raw = msgspec.field(default=NO_COUNTS, name="usageMetadata")
    model: str | None = msgspec.field(default=None, name="modelVersion")
    id: str | None = msgspec.field(default=None, name="responseId")


_plain = msgspec.json.Decoder(Plain).decode
_plain_chunks = msgspec.json.Decoder(list[Plain]).decode


def plain_chunks(bodies: list[Any]) -> Answer | None:
    """Read the chunks of a stream, or a whole answer, if all are plain and the last ends it; else return None."""
    try:
        chunks = _plain_chunks(f"[{','.join(bodies)}]") if len(bodies) > 1 else [_plain(bodies[0])]
    except (msgspec.DecodeError, TypeError, UnicodeEncodeError):  # more than a text, or parsed already
        return None
    text = "".join([chunk.candidates[0].content.parts[0].text for chunk in chunks])
    last = chunks[-1]
    if last.candidates[0].finish != PLAIN_STOP or embeds(text):
        return None
    counted = [chunk.counts for chunk in chunks]
    source = SourceMessage("assistant", text)
    return Answer((source,), last.model, finish_reason="stop", response_id=last.id, unread=counted, read=_counts)


def _counts(counted: list[msgspec.Raw]) -> Counts:
    reported: dict[str, Any] = {}
    for raw in counted:
        reported.update(fields(_decode(raw)))
    return usage(reported), usage_details(reported)


def document(body: Any) -> dict[str, Any]:
    """Parse the body of an answer, which old versions of the SDK have parsed already."""
    return fields(parsed(body) if isinstance(body, str) else body)


def answer(own: dict[str, Any]) -> Answer:
    """Read a whole answer."""
    first, *others = _candidates(own) or [{}]
    finish = string(first.get("finishReason"))
    blocked = fields(own.get("promptFeedback")) if not first else {}
    messages = (_refusal(blocked),) if blocked else spoken(items(fields(first.get("content")).get("parts")))
    reported = fields(own.get("usageMetadata"))
    if not (first or blocked or reported):
        return Answer(metadata={"error": _error_record(own) or {"type": "EmptyResponse"}})
    token = string(first.get("continuationToken")) if finish == CONTINUATION else None
    return Answer(
        messages=messages,
        model=string(own.get("modelVersion")) or None,
        usage=usage(reported),
        usage_details=usage_details(reported),
        finish_reason=_finish(finish or string(blocked.get("blockReason"))),
        alternatives=tuple(map(_alternative, others)),
        response_id=token or identifier(own.get("responseId")),
        metadata=_facts(own, first),
    )


def _finish(reason: str | None) -> str | None:
    return "stop" if reason == PLAIN_STOP else reason


def _candidates(own: dict[str, Any]) -> list[dict[str, Any]]:
    found = [fields(candidate) for candidate in items(own.get("candidates"))]
    return sorted(found, key=index_of) if len(found) > 1 else found


def index_of(candidate: dict[str, Any]) -> int:
    """Return the index of a candidate, which is left out if it is 0."""
    index = candidate.get("index")
    return index if isinstance(index, int) else 0


def _refusal(feedback: dict[str, Any]) -> SourceMessage:
    """Read a prompt that was blocked: there is no answer but the reason."""
    words = string(feedback.get("blockReasonMessage")) or ""
    metadata: dict[str, Any] = {"refusal": True}
    ratings = _harmful(feedback.get("safetyRatings"))
    if ratings:
        metadata["safetyRatings"] = ratings
    return SourceMessage("assistant", words, metadata=metadata)


def _facts(own: dict[str, Any], candidate: dict[str, Any]) -> dict[str, Any] | None:
    """Collect the facts of no single message: ratings of harm, log probabilities, sources, unread fields."""
    facts: dict[str, Any] = {}
    failed = _error_record(own)
    if failed:
        facts["error"] = failed
    ratings = _harmful(candidate.get("safetyRatings"))
    if ratings:
        facts["safetyRatings"] = ratings
    chosen = items(fields(candidate.get("logprobsResult")).get("chosenCandidates"))
    found = (fields(token).get("logProbability") for token in chosen)
    summary = logprobs_summary([one for one in found if isinstance(one, int | float)])
    if summary:
        facts["logprobs"] = summary
    return merged(facts, {**unread(own, RESPONSE), **unread(candidate, CANDIDATE)}) or None


def _error_record(own: dict[str, Any]) -> dict[str, Any] | None:
    """`metadata.error` of an error inside a success status, never its words. Old versions of the SDK pass it on."""
    error = fields(own.get("error"))
    kind, code = string(error.get("status")), number(error.get("code"))
    return {"type": kind or "error", **({"status": code} if code else {})} if error else None


def _harmful(ratings: Any) -> list[Any]:
    found = map(fields, items(ratings))
    return [kept(one) for one in found if one.get("blocked") is True or one.get("probability") not in HARMLESS]


def _alternative(candidate: dict[str, Any]) -> dict[str, Any]:
    """Describe another candidate, as `metadata.alternatives` lists it."""
    sources = spoken(items(fields(candidate.get("content")).get("parts")))
    record: dict[str, Any] = {
        "index": index_of(candidate),
        "content": "\n".join(source.text for source in sources if source.text),
        "toolCalls": [msgspec.structs.asdict(called) for source in sources for called in source.calls] or None,
        "finishReason": string(candidate.get("finishReason")),
        "attachments": tuple(one for source in sources for one in source.attachments) or None,
        "metadata": merged(sources[-1].metadata, unread(candidate, CANDIDATE)) or None,
    }
    return {key: value for key, value in record.items() if value is not None}


# -- counts ------------------------------------------------------------------------------------------------------------


def usage(reported: dict[str, Any]) -> Usage | None:
    """Return prompt and completion tokens. The prompt's include the cached ones; thoughts are part of the completion.

    A count of zero is left out on the wire; the total tells it from one that is not known yet.
    """
    prompt = number(reported.get("promptTokenCount"))
    said, thought = number(reported.get("candidatesTokenCount")), number(reported.get("thoughtsTokenCount"))
    if said is None and thought is None:
        completion = 0 if prompt is not None and reported.get("totalTokenCount") == prompt else None
    else:
        completion = (said or 0) + (thought or 0)
    return None if prompt is None and completion is None else Usage(prompt, completion)


def usage_details(reported: dict[str, Any]) -> dict[str, Any] | None:
    """Return details such as `cachedTokens` and `reasoningTokens`; counts of zero, and of text, are left out."""
    details: dict[str, Any] = {}
    for name, value in reported.items():
        if name in TOKENS and number(value):
            details[TOKENS[name]] = value
        elif name in BY_MODALITY:
            details.update(_by_modality(BY_MODALITY[name], value))
        elif name not in COUNTED and value:
            details[name] = kept(value)
    return details or None


def _by_modality(side: str, counts: Any) -> Iterator[tuple[str, int]]:
    """Yield counts such as `promptAudioTokens`."""
    for own in map(fields, items(counts)):
        modality, count = string(own.get("modality")), number(own.get("tokenCount"))
        if modality and modality != "TEXT" and count:
            yield f"{side}{modality.capitalize()}Tokens", count
