"""HTTP as it should be with what should not be in it: paths, methods, headers, secrets, bodies."""

from __future__ import annotations

import gzip
import random
import zlib

from tests.fuzz.items import API, GATE, WEBHOOK, WRONG, Facts, Headers, Item, request

METHODS = (
    b"GET",
    b"POST",
    b"PUT",
    b"PATCH",
    b"DELETE",
    b"HEAD",
    b"OPTIONS",
    b"TRACE",
    b"CONNECT",
    b"PROPFIND",
    b"X",
)
BOMB = gzip.compress(bytes(200_000), 9)
DEFLATED = zlib.compress(bytes(200_000), 9)

SPOOFED: tuple[tuple[bytes, bytes], ...] = (
    (b"X-Forwarded-For", b"127.0.0.1"),
    (b"X-Forwarded-For", b"::1, 127.0.0.1"),
    (b"X-Forwarded-For", b"unknown, [::1]:99999, 10.0.0.256"),
    (b"Forwarded", b'for=127.0.0.1;host=localhost;proto=https;by="[::1]"'),
    (b"X-Real-IP", b"127.0.0.1"),
    (b"X-Forwarded-Host", b"localhost"),
    (b"X-Original-URL", b"/health"),
    (b"X-Client-IP", b"127.0.0.1"),
    (b"True-Client-IP", b"127.0.0.1"),
    (b"Via", b"1.1 localhost"),
)
HOSTS = (b"firerunner.example.com", b"", b"localhost.evil.example", b"[::1", b"127.0.0.1.nip.io", b"a" * 300)
ODD: tuple[tuple[bytes, bytes], ...] = (
    (b"Expect", b"100-continue"),
    (b"Expect", b"200-ok"),
    (b"X-HTTP-Method-Override", b"POST"),
    (b"Content-Type", b"multipart/form-data; boundary=x"),
    (b"Content-Type", b"application/json; charset=utf-7"),
    (b"Content-Encoding", b"br"),
    (b"Content-Encoding", b"gzip, zstd"),
    (b"Transfer-Encoding", b"identity"),
    (b"Range", b"bytes=0-,0-,0-,0-"),
    (b"If-None-Match", b"*"),
    (b"Cookie", b"token=" + b"a" * 3000),
    (b"Upgrade", b"h2c"),
    (b"Accept", b"\xff\xfe\x80"),
    (b"Accept-Encoding", b"gzip;q=nan, *;q=-1"),
    (b"Authorization", b"Basic " + b"QQ==" * 40),
    (b"Private-Token", b"glpat-" + b"x" * 20),
    (b"Job-Token", WRONG.encode()),
    (b"Runner-Token", WRONG.encode()),
    (b"X-Gitlab-Token", WRONG.encode()),
    (b"X-Gitlab-Event", b"Job Hook\xe9"),
    (b"Connection", b"keep-alive, authorization, job-token"),
)
TAILS = (
    b"/../../../../etc/passwd",
    b"/%2e%2e/%2e%2e/health",
    b"//",
    b"/./",
    b"/%00",
    b"/%0d%0aX-Injected:1",
    b"/%ff%fe",
    b"/%F0%9F%9A%80",
    b"/%c0%ae%c0%ae/",
    b"/" + b"a" * 9000,
    b";jsessionid=1",
    b"?",
    b"?" + b"a=1&" * 500,
    b"/%",
    b"/%zz",
    b"/%u0041",
    b"#fragment",
    b"?token=x&private_token=y&job_token=z",
    b"/" + b"%2F" * 200,
    b"\\..\\",
)
API_PATHS = (
    b"/jobs",
    b"/jobs/1",
    b"/jobs/-1",
    b"/jobs/99999999999999999999",
    b"/machines",
    b"/machines?which=all",
    b"/hosts",
    b"/pools",
    b"/journal",
    b"/journal?after=0&limit=1000",
    b"/openapi.json",
    b"/docs",
    b"/hosts/kvm-1/cordon",
    b"/hosts/kvm-1/drain",
    b"/hosts/kvm-1/believe",
    b"/hosts/kvm-1/uncordon",
    b"/hosts/%00/cordon",
    b"",
    b"/",
)
BODIES: tuple[bytes, ...] = (
    b"",
    b"{",
    b'{"object_kind": ',
    b"[" * 40_000,
    b'{"a":' * 5000 + b"1" + b"}" * 5000,
    b"NaN",
    b'{"token": NaN}',
    b'{"object_kind": 1e999}',
    b'{"object_kind": ' + b"9" * 6000 + b"}",
    b'{"token": []}',
    b'{"token": {"token": 1}}',
    b'{"object_kind": ["build"]}',
    b"null",
    b'"x"',
    b"\xff\xfe\x00",
    b'{"token": "\\ud800"}',
    b'{"reason": "\\u0000"}',
    b'{"reason": 7}',
    b'{"\xc3\x28": 1}',
    BOMB,
    DEFLATED,
    b"\x28\xb5\x2f\xfd" + b"\x00" * 100,
    b"x" * 70_000,
    b'--x\r\nContent-Disposition: form-data; name="token"\r\n\r\n1\r\n--x--',
    b"a=b&c=d" * 50,
    b"\x00" * 20,
    b'{"token": "x", "state": "success", "exit_code": true}',
    b"exit_code=",
    b"exit_code=99999999999",
    b"\xef\xbb\xbf{}",
)


def wrong_secret(chance: random.Random) -> bytes:
    """Nobody's. Most are new ones, so that no limit stands before the proof."""
    if chance.random() < 0.5:
        return WRONG.encode() + b"%x" % chance.getrandbits(64)
    return chance.choice(
        (b"", b"\xc3\xa9\xff", b"x" * chance.choice((1, 1025, 9000, 50_000)), b"null", b"{}")
    )


def odd_headers(chance: random.Random) -> Headers:
    """A few; seldom very many or a very long one."""
    found = [chance.choice(ODD) for _ in range(chance.randrange(4))]
    match chance.randrange(40):
        case 0:
            found += [(b"X-%d" % number, b"v") for number in range(chance.choice((90, 150)))]
        case 1:
            found.append((b"X-Long", b"v" * chance.choice((8_000, 60_000, 70_000))))
        case 2:
            found.append(
                (b"Content-Length", chance.choice((b"-1", b"1e3", b"0x10", b"+5", b"5, 6", b"9" * 30)))
            )
        case 3:
            found.append(
                (b"Transfer-Encoding", chance.choice((b"chunked", b"gzip, chunked", b"chunked, identity")))
            )
    return found


def webhook(chance: random.Random, facts: Facts) -> Item:
    """At the door for hooks, shown wrong or nothing."""
    headers = odd_headers(chance)
    if chance.random() < 0.7:
        headers.append((b"X-Gitlab-Token", wrong_secret(chance)))
    if chance.random() < 0.4:
        headers += [
            (b"webhook-id", chance.choice((b"1", b"", b"x" * 300, b"\xff"))),
            (b"webhook-timestamp", chance.choice((b"0", b"-1", b"nan", b"1e10", b"9" * 12, b""))),
            (
                b"webhook-signature",
                chance.choice((b"v1,", b"v1," + b"A" * 43 + b"=", b"v2,x", b"v1,\xe9", b" " * 9)),
            ),
        ]
    headers += [chance.choice(SPOOFED) for _ in range(chance.randrange(3))]
    path = b"/webhook" + (chance.choice(TAILS) if chance.random() < 0.3 else b"")
    return _item(chance, WEBHOOK, "hostile", path, headers)


def api(chance: random.Random, facts: Facts) -> Item:
    """The operators' API, by somebody who is no operator, or says to be this computer."""
    headers, host = odd_headers(chance), b"localhost"
    how = chance.randrange(3)
    if how == 0:
        headers.append((b"Authorization", chance.choice((b"Bearer ", b"Basic ", b"")) + wrong_secret(chance)))
    elif how == 1:
        headers += [chance.choice(SPOOFED) for _ in range(chance.randrange(1, 3))]
    else:
        host = chance.choice(HOSTS)
    path = chance.choice(API_PATHS)
    if chance.random() < 0.2:
        path = (
            b"/machines/"
            + chance.choice(facts.machines).machine_id.encode()
            + chance.choice((b"", b"/destroy"))
        )
    if chance.random() < 0.25:
        path += chance.choice(TAILS)
    prefix = chance.choice((b"/api/v1", b"/api/v1", b"/api/v1", b"/api/%761", b"//api/v1", b"/api/v1/../v1"))
    return _item(chance, API, "hostile", prefix + path, headers, host)


def gate(chance: random.Random, facts: Facts) -> Item:
    """Somebody in the guests' network who is no guest, or not this one."""
    headers = odd_headers(chance)
    machine = chance.choice(facts.machines)
    made_up = "fr-" + "".join(chance.choice("0123456789abcdef") for _ in range(12))
    name = chance.choice(
        (machine.machine_id, machine.machine_id, made_up, machine.machine_id.upper(), "fr-", "..%2f", "*")
    )
    job = chance.choice(
        (str(machine.job_id), "0", "-1", "1" * 18, "9" * 30, "%31", "1e3", "\u0661".encode().hex())
    )
    path = chance.choice(
        (
            "/guest/booted",
            "/guest/ended",
            "/api/v4/jobs/request",
            f"/api/v4/jobs/{job}",
            f"/api/v4/jobs/{job}/trace",
            f"/api/v4/jobs/{job}/artifacts",
            "/api/v4/runners/router/discovery",
            "/api/v4/runners",
            "/api/v4/projects",
            "",
        )
    )
    for header in (b"Authorization", b"JOB-TOKEN", b"RUNNER-TOKEN", b"PRIVATE-TOKEN"):
        if chance.random() < 0.4:
            secret = wrong_secret(chance)
            headers.append((header, b"Bearer " + secret if header == b"Authorization" else secret))
    if path.endswith("trace"):
        headers.append(
            (
                b"Content-Range",
                chance.choice((b"0-", b"-1-5", b"0-99999999999999999999", b"5-0", b"x", b"0-0/0")),
            )
        )
    tail = chance.choice(TAILS) if chance.random() < 0.2 else b""
    return _item(chance, GATE, "hostile", f"/m/{name}{path}".encode() + tail, headers)


def _item(
    chance: random.Random, door: str, kind: str, target: bytes, headers: Headers, host: bytes = b"localhost"
) -> Item:
    method = (
        chance.choice(METHODS)
        if chance.random() < 0.4
        else chance.choice((b"GET", b"POST", b"PUT", b"PATCH"))
    )
    body = chance.choice(BODIES) if method in {b"POST", b"PUT", b"PATCH"} else None
    if chance.random() < 0.05:
        body = chance.choice(BODIES)
    if body in {BOMB, DEFLATED} or chance.random() < 0.03:
        headers.append((b"Content-Encoding", chance.choice((b"gzip", b"deflate", b"br", b"zstd"))))
    framed = {b"content-length", b"transfer-encoding", b"expect", b"upgrade"}
    whole = method != b"CONNECT" and not any(name.lower() in framed for name, _ in headers)
    data = request(method, target, headers, body, host=host)
    return Item(door, f"{kind} {door}", (data,), whole=whole, is_head=method == b"HEAD")
