"""Lists in pages: offset pagination with its headers, and keyset pagination by id with `Link`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from firerunner.fakes.gitlab.answers import Refused, parameter_error

PER_PAGE = 20
PER_PAGE_MAX = 100


class HasId(Protocol):
    """A record with an id."""

    id: int


Record = TypeVar("Record", bound=HasId)


def listing(
    request: Request, external_url: str, records: Iterable[Record], show: Callable[[Record], Any]
) -> Response:
    """One page, newest id first unless `sort=asc`. Only `order_by=id`, as for jobs."""
    query = request.query_params
    per_page = min(_positive(request, "per_page", PER_PAGE), PER_PAGE_MAX)
    if query.get("order_by", "id") != "id" or query.get("sort", "desc") not in ("asc", "desc"):
        raise Refused(parameter_error("order_by does not have a valid value"))
    ascending = query.get("sort") == "asc"
    ordered = sorted(records, key=lambda record: record.id, reverse=not ascending)
    if query.get("pagination") == "keyset":
        return _keyset(request, external_url, ordered, per_page, show, ascending=ascending)
    page = _positive(request, "page", 1)
    total_pages = max(1, -(-len(ordered) // per_page))
    shown = ordered[(page - 1) * per_page : page * per_page]
    headers = {
        "X-Page": str(page),
        "X-Per-Page": str(per_page),
        "X-Prev-Page": str(page - 1) if page > 1 else "",
        "X-Next-Page": str(page + 1) if page < total_pages else "",
        "X-Total": str(len(ordered)),
        "X-Total-Pages": str(total_pages),
    }
    wanted = {"first": 1, "last": total_pages}
    wanted |= {"prev": page - 1} if page > 1 else {}
    wanted |= {"next": page + 1} if page < total_pages else {}
    links = (
        _link(request, external_url, rel, page=number, per_page=per_page) for rel, number in wanted.items()
    )
    return JSONResponse([show(record) for record in shown], headers={**headers, "Link": ", ".join(links)})


def _keyset(
    request: Request,
    external_url: str,
    ordered: list[Record],
    per_page: int,
    show: Callable[[Record], Any],
    *,
    ascending: bool,
) -> Response:
    """The cursor is the last id seen. Its form is GitLab's business: clients follow the link unchanged."""
    mark = "id_after" if ascending else "id_before"
    given = request.query_params.get(mark)
    if given is not None and given.isdigit():
        border = int(given)
        ordered = [record for record in ordered if (record.id > border if ascending else record.id < border)]
    shown = ordered[:per_page]
    headers = {}
    if len(ordered) > per_page:
        headers["Link"] = _link(request, external_url, "next", per_page=per_page, **{mark: shown[-1].id})
    return JSONResponse([show(record) for record in shown], headers=headers)


def _link(request: Request, external_url: str, rel: str, **changed: int) -> str:
    kept = [(key, value) for key, value in request.query_params.multi_items() if key not in changed]
    query = urlencode([*kept, *changed.items()])
    return f'<{external_url}{request.scope["fake_gitlab.path"]}?{query}>; rel="{rel}"'


def _positive(request: Request, name: str, default: int) -> int:
    given = request.query_params.get(name)
    if given is None:
        return default
    if not given.isdigit():
        raise Refused(parameter_error(f"{name} is invalid"))
    return max(1, int(given))
