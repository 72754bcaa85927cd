"""`POST /webhook`: only who knows the secret gets in, and who gets in always gets 2xx at once.

GitLab does not redeliver a failed hook and switches a failing one off (reference: gitlab.md 1.6),
so an authentic hook is never answered with an error, whatever is in it.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from firerunner.intake.hooks import Hook, read_hook
from firerunner.settings import WebhookSettings

Wake = Callable[[Hook], None]
Count = Callable[[str], None]


def create_intake(settings: WebhookSettings, wake: Wake, count: Count) -> Callable[[Request], object]:
    """The endpoint. `wake` must not block; `count` gets one word for each request."""
    secret = settings.secret.get_secret_value().encode() if settings.secret else None

    async def webhook(request: Request) -> Response:
        if secret is None and not settings.insecure:
            count("closed")
            return _refusal(403, "no webhook secret is configured; set webhook.secret or webhook.secret_file")
        if secret is not None:
            token = request.headers.get("x-gitlab-token", "").encode()
            if not hmac.compare_digest(token, secret):
                count("unauthenticated")
                return _refusal(401, "wrong or missing X-Gitlab-Token")
        if request.headers.get("content-encoding", "identity") != "identity":
            count("compressed")
            return _refusal(413, "compressed bodies are not accepted")
        try:
            body = await _limited_body(request, settings.max_body)
        except ClientDisconnect:
            count("cut")
            return Response(status_code=204)
        if body is None:
            count("too_large")
            return _refusal(413, f"the body is larger than {settings.max_body} bytes")
        hook = read_hook(body)
        if hook is None:
            count("not_understood")
            return JSONResponse({"message": "accepted, not understood"})
        count("woke" if hook.means_work else "ignored")
        if hook.means_work:
            wake(hook)
        return JSONResponse({"message": "accepted"})

    return webhook


def _refusal(status: int, message: str) -> JSONResponse:
    return JSONResponse({"message": message}, status_code=status)


async def _limited_body(request: Request, limit: int) -> bytes | None:
    """The body, or None as soon as it is longer than `limit` bytes; chunked bodies too."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            return None
        parts.append(part)
    return b"".join(parts)
