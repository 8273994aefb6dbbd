"""The pages that delete conversations: one to choose, one to confirm, and the deletion itself."""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse
from starlette.routing import BaseRoute, Route

from converra.server.api.refusal import Refusal
from converra.server.store.database import IN_MEMORY
from converra.server.viewer.brief import brief
from converra.server.viewer.filters import filters_of, link, title
from converra.server.viewer.pages import missing, page, render, store_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from converra.server.store.catalogue import Filters
    from converra.server.store.conversations import Store

OFFERED = 100
"""Conversations with a box to tick; all that match can be deleted as well, however many."""

NAMED = 20
"""Conversations that the confirmation names; of the others it gives the number."""

_RANGE = re.compile(r"(\d{1,18})(?:-(\d{1,18}))?", re.ASCII)


def routes() -> list[BaseRoute]:
    """The pages and the form; the gate lets no other site's page send it."""
    return [Route("/forget", page(forget)), Route("/forget", delete, methods=["POST"])]


def address(filters: Filters) -> str:
    """Return the address of the page that offers the conversations of a list for deletion."""
    query = urlencode(filters.given())
    return f"/forget?{query}" if query else "/forget"


def forget(request: Request) -> Response:
    """Ask before some conversations are deleted: the `id`s, or with `all` those of the filters; else offer those."""
    query, store = request.query_params, store_of(request)
    filters = filters_of(query)
    ids = query.getlist("id")
    if not ids and "all" not in query:
        return _offer(request, filters)
    numbers = _named(store, ids) if ids else store.catalogue.numbers(filters)
    if not numbers:
        return missing(request, "conversation")
    return render(
        request,
        "forget.html",
        count=len(numbers),
        named=[brief(each) for each in store.catalogue.numbered(numbers[:NAMED])],
        numbers=packed(numbers),
        seen=store.now(),
        kept_in=None if store.path == IN_MEMORY else store.path,
        back=query.get("back") if ids and _is_page(query.get("back")) else link(filters),
    )


def _offer(request: Request, filters: Filters) -> Response:
    found = store_of(request).catalogue.page(filters, limit=OFFERED)
    return render(
        request,
        "forget_which.html",
        title=title(filters),
        choices=[brief(each) for each in found.conversations],
        filters=filters,
        total=found.total,
        more=found.more,
        list_address=link(filters),
    )


def _named(store: Store, ids: Iterable[str]) -> list[int]:
    found = (store.find(None, each) for each in dict.fromkeys(ids))
    return sorted((each.number for each in found if each is not None), reverse=True)


def _is_page(path: str | None) -> bool:
    """Return True for a path of this server: two slashes would name another host."""
    return path is not None and re.fullmatch(r"/(?![/\\])[!-~]*", path) is not None


async def delete(request: Request) -> Response:
    """Delete what the confirmation has named, and show the list."""
    async with request.form(max_files=0, max_fields=5) as form:
        ranges, seen = unpacked(str(form.get("numbers", ""))), str(form.get("seen", ""))
    if not ranges or not re.fullmatch(r"\d{1,18}", seen, re.ASCII):
        raise Refusal(400, "VALIDATION_ERROR", "This form names no conversations")
    count = await run_in_threadpool(_deleted, store_of(request), ranges, int(seen))
    return RedirectResponse(f"/?deleted={count}", 303)


def _deleted(store: Store, ranges: Sequence[tuple[int, int]], seen: int) -> int:
    with store.reading():
        numbers = store.pruning.among(ranges, created_until=seen)
    if numbers:
        store.pruning.forget(numbers)
    return len(numbers)


def packed(numbers: Iterable[int]) -> str:
    """Write numbers as ranges, such as `3-7 9`: a form carries the exact conversations, however many."""
    runs = groupby(enumerate(sorted(numbers)), key=lambda each: each[1] - each[0])
    ends = ([number for _, number in run] for _, run in runs)
    return " ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in ends)


def unpacked(text: str) -> list[tuple[int, int]]:
    """Read the ranges of `packed`; none for anything else."""
    found = [_RANGE.fullmatch(part) for part in text.split()]
    return [(int(each[1]), int(each[2] or each[1])) for each in found if each] if all(found) else []
