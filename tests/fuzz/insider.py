"""Who is known and hostile: a guest with its secrets, a GitLab whose hooks hold nonsense or come twice."""

from __future__ import annotations

import json
import random
import time

from tests.fuzz.hostile import BODIES, odd_headers
from tests.fuzz.items import GATE, WEBHOOK, Facts, Headers, Item, chunked, request
from tests.fuzz.mutated import hook_body, signed

RANGES = (
    "0-0",
    "0-",
    "-",
    "-5",
    "5-0",
    "0-99999999999999999999",
    "a-b",
    "0-5/6",
    "bytes 0-5/6",
    "0x0-0x5",
    "1e2-1e3",
    " 0 - 5 ",
    "0-5,6-9",
    "--",
    "0--5",
    "\u00b2-3",
    "0" * 5000 + "-1",
    "-1--1",
)
"""None that begins beyond GitLab's limit for logs: that ends the job, as it should."""
TOLD: tuple[object, ...] = (
    7,
    -1,
    10**400,
    1.5,
    True,
    None,
    [],
    {},
    "",
    "x" * 5000,
    "running\u0000",
    "\ud800",
    [[[]]],
    {"a": 1},
    "RUNNING",
    "pending",
)
REPLAYED = "msg_sent-again"


def guest(chance: random.Random, facts: Facts) -> Item:
    """Calls about its own job with nonsense in them, and calls about others' with its own secrets."""
    me = facts.insider
    token: Headers = [(b"JOB-TOKEN", me.job_token.encode())]
    if chance.random() < 0.25:
        return _about_others(chance, facts)
    base, headers = f"/m/{me.machine_id}/api/v4/jobs/{me.job_id}", odd_headers(chance)
    method, path, body, kind = b"PATCH", f"{base}/trace", chance.choice(BODIES), "insider trace"
    match chance.randrange(3):
        case 0:
            headers.append((b"Content-Range", chance.choice(RANGES).encode("latin-1", "replace")))
            path += chance.choice(
                ("", "?debug_trace=false", "?debug_trace=x", "?token=x", "?debug_trace=%ff")
            )
        case 1:
            said: dict[str, object] = {"token": me.job_token, "state": "running"}
            said |= {
                chance.choice(("state", "exit_code", "failure_reason", "checksum", "output")): chance.choice(
                    TOLD
                )
            }
            if str(said["state"]) in {"success", "failed"}:
                said["state"] = "running"
            method, path, kind = b"PUT", base, "insider update"
            body = json.dumps(said).encode() if chance.random() < 0.7 else chance.choice(BODIES)
        case _:
            method, path, kind = b"POST", f"{base}/artifacts", "insider upload"
            path += chance.choice(("", "?artifact_format=zip", "?artifact_type=x", "?expire_in=never"))
            headers.append((b"Content-Type", b"multipart/form-data; boundary=x"))
    if chance.random() < 0.2:
        return _framed_twice(chance, method, path.encode(), token + headers, body)
    framed = {b"content-length", b"transfer-encoding", b"expect", b"upgrade"}
    whole = not any(name.lower() in framed for name, _ in headers)
    data = request(method, path.encode(), token + headers, body)
    return Item(GATE, kind, (data,), refuse=False, whole=whole, ending="" if whole else "cut")


def _framed_twice(chance: random.Random, method: bytes, path: bytes, headers: Headers, body: bytes) -> Item:
    """In chunks, and with a length that is another one."""
    lengths = (len(body), len(body) + 1, max(0, len(body) - 1), 0, 10_000)
    framing = [(b"Transfer-Encoding", b"chunked"), (b"Content-Length", b"%d" % chance.choice(lengths))]
    chance.shuffle(framing)
    if chance.random() < 0.3:
        framing = framing[:1]
    data = request(method, path, headers + framing) + chunked(body, chance.choice((1000, 20_000)))
    return Item(GATE, "insider framed twice", (data,), refuse=False, whole=False, ending="cut")


def _about_others(chance: random.Random, facts: Facts) -> Item:
    me, other = facts.insider, chance.choice((facts.honest, facts.target))
    token: Headers = [(b"JOB-TOKEN", me.job_token.encode())]
    bearer: Headers = [(b"Authorization", b"Bearer " + me.credential.encode())]
    said = json.dumps({"token": me.job_token, "state": "success"}).encode()
    ask = json.dumps({"token": me.credential, "info": {}}).encode()
    method, path, headers, body = chance.choice(
        (
            (b"PUT", f"/m/{me.machine_id}/api/v4/jobs/{other.job_id}", token, said),
            (b"PUT", f"/m/{other.machine_id}/api/v4/jobs/{other.job_id}", token, said),
            (
                b"PATCH",
                f"/m/{me.machine_id}/api/v4/jobs/{other.job_id}/trace",
                [*token, (b"Content-Range", b"0-0")],
                b"x",
            ),
            (b"GET", f"/m/{me.machine_id}/api/v4/jobs/{other.job_id}/artifacts", token, b""),
            (b"POST", f"/m/{other.machine_id}/guest/ended", bearer, b"exit_code=0"),
            (b"POST", f"/m/{other.machine_id}/guest/booted", bearer, b""),
            (b"POST", f"/m/{other.machine_id}/api/v4/jobs/request", [], ask),
        )
    )
    return Item(GATE, "insider about others", (request(method, path.encode(), headers, body),))


def sent_again(facts: Facts) -> bytes:
    """A good hook. The honest GitLab sends it first."""
    shown = signed(facts.signing, REPLAYED, facts.began, hook_body(1))
    return request(
        b"POST", b"/webhook", [(b"X-Gitlab-Token", facts.secret.encode()), *shown.items()], hook_body(1)
    )


def hook(chance: random.Random, facts: Facts) -> Item:
    """An authentic hook that is not understood, or one that has been here before."""
    name, now = f"msg_{chance.getrandbits(64):x}", time.time()
    token: Headers = [(b"X-Gitlab-Token", facts.secret.encode())]
    if chance.random() < 0.3:
        return Item(WEBHOOK, "replayed hook", (sent_again(facts),), refuse=False)
    body = chance.choice(BODIES)
    headers: Headers = []
    try:
        shown = signed(facts.signing, name, now, body)
    except UnicodeDecodeError:
        shown = signed(facts.signing, name, now, b"")
    if chance.random() < 0.2:
        headers.append((b"Content-Encoding", chance.choice((b"gzip", b"br", b"deflate", b"zstd"))))
    data = request(b"POST", b"/webhook", token + list(shown.items()) + headers, body)
    return Item(WEBHOOK, "authentic nonsense", (data,), refuse=False)
