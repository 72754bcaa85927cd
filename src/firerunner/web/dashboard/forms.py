"""What comes from a form: read in bounds, and only from a page of ours."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request

from firerunner.intake.bodies import Bodies
from firerunner.web.access import Visitor
from firerunner.web.guard import read_body
from firerunner.web.refusals import Refusal

MOST_FIELDS = 10
FORM_TOKEN = "form_token"  # noqa: S105  (a field's name)

_HERE = re.compile(r"/(?!/)[A-Za-z0-9/_.~?=&%-]{0,300}")

_ELSEWHERE = (
    "this did not come from a page of this dashboard: open it anew and try again. Behind a proxy, have it "
    "pass the `Host` header on as the browser sent it"
)
_NOT_YOURS = "this form is not of your session (any more): open the page anew and try again"


def require_this_site(headers: Headers) -> None:
    """Browsers say which site a form stands on; pages of other sites cannot change what they say.

    (`Origin` goes with every POST: the Fetch standard, "append a request Origin header".) Raises Refusal.
    """
    origins, hosts = headers.getlist("origin"), headers.getlist("host")
    fetched_from = headers.get("sec-fetch-site", "same-origin")
    if len(origins) == len(hosts) == 1 and fetched_from == "same-origin":
        try:
            origin = urlsplit(origins[0])
        except ValueError:
            raise Refusal(403, _ELSEWHERE) from None
        if origin.scheme in {"http", "https"} and origin.netloc.lower() == hosts[0].lower():
            return
    raise Refusal(403, _ELSEWHERE)


def is_by_https(headers: Headers) -> bool:
    """Whether the browser, of which `require_this_site` has been asked, speaks HTTPS; maybe to a proxy."""
    return headers.get("origin", "").startswith("https:")


async def fields(bodies: Bodies, request: Request, *, stranger: bool) -> Mapping[str, str]:
    """The form's fields. Raises Refusal, ClientDisconnect."""
    kinds = [kind.partition(";")[0].strip().lower() for kind in request.headers.getlist("content-type")]
    if kinds != ["application/x-www-form-urlencoded"]:
        raise Refusal(415, "this is no form")
    body = await read_body(bodies, request, stranger=stranger)
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS
        )
    except ValueError:
        raise Refusal(400, "the form cannot be read") from None
    if len({name for name, _ in pairs}) < len(pairs):
        raise Refusal(400, "a field comes twice")
    return dict(pairs)


def require_form_token(form: Mapping[str, str], visitor: Visitor) -> None:
    """Raises Refusal unless the form was made for this session."""
    shown = form.get(FORM_TOKEN, "").encode(errors="replace")
    if not visitor.form_token or not hmac.compare_digest(shown, visitor.form_token.encode()):
        raise Refusal(403, _NOT_YOURS)


def local_path(wanted: str) -> str:
    """Where to go after signing in: a path here, whatever somebody has written into a link."""
    return wanted if _HERE.fullmatch(wanted) else "/"
