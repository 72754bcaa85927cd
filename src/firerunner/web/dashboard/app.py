"""The dashboard's pages: who may see which, the forms that act, and the stream that keeps them up to date."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import quote

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from firerunner.errors import FireRunnerError, GitLabError
from firerunner.intake.bodies import Bodies
from firerunner.serving.headers import SECURITY_HEADERS, with_security_headers
from firerunner.web.access import Access, Visitor
from firerunner.web.acts import CANCEL, DESTROY, RELEASE, Acts, HostAct
from firerunner.web.dashboard import forms
from firerunner.web.dashboard.confirming import ASKED
from firerunner.web.dashboard.live import Live
from firerunner.web.dashboard.reader import HOSTS, JOBS, JOURNAL, MACHINES, OVERVIEW, ROWS, Reader, is_view
from firerunner.web.dashboard.render import STATIC, page, piece
from firerunner.web.dashboard.stream import EventStream
from firerunner.web.dashboard.views import View
from firerunner.web.guard import Count
from firerunner.web.models import Why
from firerunner.web.operations import Operations
from firerunner.web.refusals import Refusal
from firerunner.web.sessions import LIFE_S

HEADERS = SECURITY_HEADERS | {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    # Not `no-referrer`: with that a browser says `Origin: null` to our own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

COOKIE, SECURE_COOKIE = "firerunner", "__Host-firerunner"

_PLACES = frozenset({"", MACHINES, HOSTS, JOBS, JOURNAL, "live", "static", "sign-in", "sign-out"})


class Dashboard:
    """The ASGI application for the paths that it `has`. Close it before its server is told to end."""

    def __init__(self, operations: Operations, acts: Acts, access: Access, count: Count) -> None:
        self._operations = operations
        self._acts = acts
        self._access = access
        self._count = count
        self._bodies = Bodies()
        self._reader = Reader(operations)
        self.live = Live(self._reader)
        routes = [
            *(Route(f"/{name}", self._as_visitor(self._list(name))) for name in (MACHINES, HOSTS, JOBS)),
            Route("/", self._as_visitor(self._list(OVERVIEW))),
            Route("/journal", self._as_visitor(self._journal)),
            Route("/jobs/{job:int}", self._as_visitor(self._job)),
            Route("/machines/{machine}", self._as_visitor(self._machine)),
            Route("/hosts/{target}/{act}", self._as_visitor(self._act), methods=["GET", "POST"]),
            Route("/jobs/{target:int}/{act}", self._as_visitor(self._act), methods=["GET", "POST"]),
            Route("/machines/{target}/{act}", self._as_visitor(self._act), methods=["GET", "POST"]),
            Route("/sign-in", self._sign_in, methods=["GET", "POST"]),
            Route("/sign-out", self._as_visitor(self._sign_out), methods=["POST"]),
            Route("/static/{name}", _static),
        ]
        handlers = {Refusal: _refused, HTTPException: _refused, FireRunnerError: _refused}
        pages = Starlette(routes=routes, exception_handlers=handlers)
        pages.router.redirect_slashes = False
        self._app: ASGIApp = with_security_headers(self._streaming_beside(pages), HEADERS)

    def has(self, path: str) -> bool:
        """Whether the path is one of the dashboard's."""
        return path.split("/", 2)[1] in _PLACES if path.startswith("/") else False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._count(scope.get(_RIGHT, "none"), str(message["status"]))
            await send(message)

        await self._app(scope, receive, counted)

    async def aclose(self) -> None:
        """End what goes on."""
        await self.live.aclose()

    def _streaming_beside(self, pages: ASGIApp) -> ASGIApp:
        """Not through Starlette's error handling, which is for answers that end."""

        async def either(scope: Scope, receive: Receive, send: Send) -> None:
            answer = pages
            if scope["path"] == "/live" and scope["method"] == "GET":
                answer = self._stream(Request(scope, receive))
            await answer(scope, receive, send)

        return either

    def _stream(self, request: Request) -> ASGIApp:
        try:
            if self._visitor(request) is None:
                return _error(401, "sign in to look")
        except Refusal as refusal:
            return _error(refusal.status, refusal.message, refusal.headers)
        view, have = request.query_params.get("view", ""), request.query_params.get("have", "")
        if not is_view(view):
            return _error(404, "there is no such view")
        have = request.headers.get("last-event-id", have)
        return EventStream(self.live.stream(view, have, lambda: self._may_look(request)))

    def _may_look(self, request: Request) -> bool:
        try:
            return self._visitor(request) is not None
        except Refusal:
            return False

    def _visitor(self, request: Request) -> Visitor | None:
        visitor = self._access.visitor(request, _cookie(request))
        if visitor is not None:
            request.scope[_RIGHT] = visitor.caller.right
        return visitor

    def _as_visitor(self, show: _Show) -> Callable[[Request], Awaitable[Response]]:
        """`show` for who may look. Others are asked for a token."""

        async def shown(request: Request) -> Response:
            visitor = self._visitor(request)
            if visitor is None and request.method == "POST":
                raise Refusal(401, "your session is over, and nothing was done: sign in and try again")
            if visitor is None:
                query = f"?{request.url.query}" if request.url.query else ""
                wanted = quote(forms.local_path(request.url.path + query), safe="")
                return RedirectResponse(f"/sign-in?next={wanted}", 303)
            try:
                return await show(request, visitor)
            except ClientDisconnect:
                return Response(status_code=204)  # to nobody

        return shown

    def _page(self, template: str, visitor: Visitor, **facts: object) -> HTMLResponse:
        who = {
            "right": visitor.caller.right,
            "form_token": visitor.form_token,
            "takes_tokens": self._access.takes_tokens,
            "now": self._operations.ledger.clock(),
        }
        return _html(page(template, **who, **facts))

    async def _view(self, name: str) -> View:
        view = (await self._reader.views({name}))[name]
        if view is None:
            raise Refusal(404, "there is no such thing (any more)")
        return view

    def _list(self, name: str) -> _Show:
        async def show(request: Request, visitor: Visitor) -> Response:
            return self._page(name, visitor, here=name, view=await self._view(name), name=name)

        return show

    async def _journal(self, request: Request, visitor: Visitor) -> Response:
        subject = request.query_params.get("subject", "")[:200]
        before = request.query_params.get("before", "")
        if not subject and not before:
            return await self._list(JOURNAL)(request, visitor)
        if before and not (before.isdecimal() and len(before) <= 18):
            raise Refusal(404, "there is no such row")
        if subject:
            rows = await self._operations.ledger.last_journal(subject, limit=ROWS)
        else:
            upto = max(int(before), 1)
            found = await self._operations.ledger.journal(max(upto - 1 - ROWS, 0), limit=ROWS)
            rows = [row for row in found if row.seq < upto]
        entry = piece("entry")
        pieces = {f"entry-{row.seq}": entry(f"entry-{row.seq}", row) for row in reversed(rows)}
        view = View({"journal": pieces})
        return self._page(JOURNAL, visitor, here=JOURNAL, view=view, name="", subject=subject)

    async def _job(self, request: Request, visitor: Visitor) -> Response:
        number = request.path_params["job"]
        name = f"job/{number}"
        if not is_view(name):
            raise Refusal(404, "there is no such job")
        return self._page("job", visitor, here=JOBS, view=await self._view(name), name=name, number=number)

    async def _machine(self, request: Request, visitor: Visitor) -> Response:
        machine_id = request.path_params["machine"]
        name = f"machine/{machine_id}"
        if not is_view(name):
            raise Refusal(404, "there is no such machine")
        view = await self._view(name)
        return self._page("machine", visitor, here=MACHINES, view=view, name=name, machine_id=machine_id)

    async def _act(self, request: Request, visitor: Visitor) -> Response:
        """Ask whether it is meant, and then do it."""
        kind = request.url.path.split("/")[1]
        target, act = str(request.path_params["target"]), request.path_params["act"]
        if act not in _ACTS[kind]:
            raise Refusal(404, "there is no such page")
        asked, error, reason, status = ASKED[act], "", "", 200
        if request.method == "POST":
            forms.require_this_site(request.headers)
            form = await forms.fields(self._bodies, request, stranger=False)
            forms.require_form_token(form, visitor)
            if visitor.caller.right != "operate":
                raise Refusal(403, "this token may read only: sign in with the one of api.operate_token")
            reason = form.get("reason", "").strip()
            try:
                Why(reason=reason)
            except ValidationError:
                error, status = "Say why, in one line of at most 500 characters.", 422
            else:
                await self._do(kind, target, act, visitor, reason)
                return RedirectResponse(f"/{kind}" if kind == HOSTS else f"/{kind}/{target}", 303)
        answer = self._page(
            "confirm",
            visitor,
            **{
                "here": kind,
                "asked": asked,
                "target": target,
                "kind": kind,
                "error": error,
                "reason": reason,
            },
            back=f"/{kind}" if kind == HOSTS else f"/{kind}/{target}",
            path=request.url.path,
        )
        answer.status_code = status
        return answer

    async def _do(self, kind: str, target: str, act: str, visitor: Visitor, reason: str) -> None:
        if kind == HOSTS:
            await self._acts.to_host(HostAct(act), target, visitor.caller, reason)
        elif act == RELEASE:
            await self._acts.release(target, visitor.caller, reason)
        elif kind == MACHINES:
            await self._acts.destroy(target, visitor.caller, reason)
        else:
            await self._acts.cancel(int(target), visitor.caller, reason)

    async def _sign_in(self, request: Request) -> Response:
        wanted, error, status, headers = request.query_params.get("next", "/"), "", 200, {}
        self._visitor(request)  # refuses while the dashboard is closed
        if request.method == "POST":
            try:
                forms.require_this_site(request.headers)
                form = await forms.fields(self._bodies, request, stranger=True)
                wanted = form.get("next", "/")
                cookie = self._access.sign_in(request, form.get("token", "").strip())
            except Refusal as refusal:
                error, status, headers = refusal.message, refusal.status, refusal.headers
            except ClientDisconnect:
                return Response(status_code=204)
            else:
                answer = RedirectResponse(forms.local_path(wanted), 303)
                secure = forms.is_by_https(request.headers)
                name = SECURE_COOKIE if secure else COOKIE
                answer.set_cookie(
                    name, cookie, max_age=LIFE_S, path="/", secure=secure, httponly=True, samesite="strict"
                )
                return answer
        return _html(page("sign_in", next=forms.local_path(wanted), error=error), status, headers)

    async def _sign_out(self, request: Request, visitor: Visitor) -> Response:
        forms.require_this_site(request.headers)
        forms.require_form_token(await forms.fields(self._bodies, request, stranger=False), visitor)
        self._access.sign_out(_cookie(request) or "")
        answer = RedirectResponse("/sign-in", 303)
        answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
        answer.delete_cookie(SECURE_COOKIE, path="/", secure=True, httponly=True, samesite="strict")
        return answer


_Show = Callable[[Request, Visitor], Awaitable[Response]]

_RIGHT = "firerunner.right"
_ACTS: dict[str, frozenset[str]] = {
    HOSTS: frozenset(HostAct),
    MACHINES: frozenset({DESTROY, RELEASE}),
    JOBS: frozenset({CANCEL}),
}


def _cookie(request: Request) -> str | None:
    return request.cookies.get(SECURE_COOKIE) or request.cookies.get(COOKIE)


def _html(content: str, status: int = 200, headers: dict[str, str] | None = None) -> HTMLResponse:
    return HTMLResponse(content.encode(errors="replace"), status, headers)


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> HTMLResponse:
    return _html(page("refused", status=status, message=message), status, headers)


async def _refused(request: Request, error: Exception) -> Response:
    match error:
        case Refusal():
            return _error(error.status, error.message, error.headers)
        case HTTPException():
            return _error(error.status_code, "there is no such page here", dict(error.headers or {}))
        case GitLabError():
            return _error(502, str(error))
        case _:
            return _error(503, str(error), {"Retry-After": "5"})


async def _static(request: Request) -> Response:
    content = STATIC.get(request.path_params["name"])
    if content is None:
        raise Refusal(404, "there is no such file")
    return Response(content[0], media_type=content[1])
