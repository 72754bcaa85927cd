"""Requests that would be obeyed, with exactly one thing wrong in what shows who sends them."""

from __future__ import annotations

import base64
import datetime
import json
import random
import time

from standardwebhooks import Webhook

from tests.fuzz.items import API, GATE, WEBHOOK, Facts, Headers, Item, Machine, request, secrets_of, spoilt

JSON = (b"Content-Type", b"application/json")
OTHER_SIGNING = "whsec_" + base64.b64encode(bytes(32)).decode()
OLD_S, NEW_S = -3600, 3600


def hook_body(project: int, status: str = "pending") -> bytes:
    """A Job Hook."""
    said = {
        "object_kind": "build",
        "build_status": status,
        "project_id": project,
        "build_id": 7,
        "ref": "main",
    }
    return json.dumps(said).encode()


def signed(signing: str, name: str, at: float, body: bytes) -> dict[bytes, bytes]:
    """The headers of Standard Webhooks."""
    moment = datetime.datetime.fromtimestamp(int(at), datetime.UTC)
    signature = Webhook(signing).sign(name, moment, body.decode())
    return {
        b"webhook-id": name.encode(),
        b"webhook-timestamp": b"%d" % int(at),
        b"webhook-signature": signature.encode(),
    }


def webhook(chance: random.Random, facts: Facts) -> Item:
    """A hook that would wake."""
    body, name, now = hook_body(1), f"msg_{chance.getrandbits(64):x}", time.time()
    shown = {b"X-Gitlab-Token": facts.secret.encode(), JSON[0]: JSON[1]} | signed(
        facts.signing, name, now, body
    )
    doubled: Headers = []
    match chance.randrange(9):
        case 0:
            shown[b"X-Gitlab-Token"] = spoilt(chance, facts.secret, secrets_of(facts))
        case 1:
            del shown[b"X-Gitlab-Token"]
        case 2:
            shown |= signed(OTHER_SIGNING, name, now, body)
        case 3:
            shown |= signed(facts.signing, name, now + chance.choice((OLD_S, NEW_S, -301, 320)), body)
        case 4:
            at = chance.randrange(len(body))
            body = body[:at] + bytes([body[at] ^ 1 << chance.randrange(7)]) + body[at + 1 :]
        case 5:
            shown[b"webhook-id"] += b"x"
        case 6:
            signature = shown[b"webhook-signature"]
            at = chance.randrange(3, len(signature) - 2)
            other = b"A" if signature[at : at + 1] != b"A" else b"B"
            shown[b"webhook-signature"] = signature[:at] + other + signature[at + 1 :]
        case 7:
            del shown[chance.choice((b"webhook-id", b"webhook-timestamp", b"webhook-signature"))]
        case _:
            twice = chance.choice([each for each in shown if each != JSON[0]])
            doubled = [(twice, shown[twice])]
    return Item(WEBHOOK, "mutated hook", (request(b"POST", b"/webhook", [*shown.items(), *doubled], body),))


def api(chance: random.Random, facts: Facts) -> Item:
    """An act that would be done, or something that would be told."""
    reason = json.dumps({"reason": "fuzz"}).encode()
    act = chance.random() < 0.7
    if act:
        machine = chance.choice(facts.machines).machine_id
        path = chance.choice(
            ("hosts/kvm-1/cordon", "hosts/kvm-1/drain", "hosts/kvm-1/believe", f"machines/{machine}/destroy")
        )
    else:
        path = chance.choice(("jobs", "machines", "hosts", "pools", "journal", "openapi.json"))
    right = facts.operate_token if act else chance.choice((facts.operate_token, facts.read_token))
    bearer = b"Bearer " + right.encode()
    shown: Headers = [JSON] if act else []
    match chance.randrange(6):
        case 0 if act:
            shown.append((b"Authorization", b"Bearer " + facts.read_token.encode()))
        case 1:
            shown += [(b"Authorization", bearer), (b"Authorization", bearer)]
        case 2:
            shown.append(
                (
                    b"Authorization",
                    chance.choice((b"", b"Basic ", b"Token ", b"Bearer,", b"Bearer x ")) + right.encode(),
                )
            )
        case 3:
            shown += [(b"PRIVATE-TOKEN", right.encode()), (b"X-Forwarded-For", b"127.0.0.1")]
        case 4:
            path += f"?token={right}&access_token={right}"
            shown.append((b"Cookie", b"token=" + right.encode()))
            shown.append((b"Forwarded", b"for=127.0.0.1"))
        case _:
            others = [
                each
                for each in secrets_of(facts)
                if act or each not in {facts.operate_token, facts.read_token}
            ]
            shown.append((b"Authorization", b"Bearer " + spoilt(chance, right, others)))
    data = request(b"POST" if act else b"GET", b"/api/v1/" + path.encode(), shown, reason if act else None)
    return Item(API, "mutated act" if act else "mutated read", (data,))


def gate(chance: random.Random, facts: Facts) -> Item:
    """A guest's call."""
    call = chance.choice((_said, _said, _asked, _updated, _traced, _moved))
    method, path, headers, body, machine = call(chance, facts)
    target = f"/m/{machine.machine_id}{path}".encode()
    return Item(GATE, f"mutated {call.__name__[1:]}", (request(method, target, headers, body),))


Call = tuple[bytes, str, Headers, bytes | None, Machine]


def _victim(chance: random.Random, facts: Facts) -> Machine:
    return chance.choice((facts.honest, facts.target))


def _said(chance: random.Random, facts: Facts) -> Call:
    machine, word = _victim(chance, facts), chance.choice(("booted", "ended", "ended"))
    wrong = spoilt(chance, machine.credential, secrets_of(facts))
    headers: Headers = [(b"Authorization", b"Bearer " + wrong)]
    if chance.random() < 0.2:
        machine = facts.target
        right = machine.credential.encode()
        headers = chance.choice(
            (
                [(b"Authorization", b"Bearer " + right)] * 2,
                [(b"Authorization", right)],
                [(b"Authorization", b"Basic " + right)],
                [(b"RUNNER-TOKEN", right), (b"JOB-TOKEN", right)],
            )
        )
    return b"POST", f"/guest/{word}", headers, b"exit_code=0" if word == "ended" else b"", machine


def _asked(chance: random.Random, facts: Facts) -> Call:
    machine = _victim(chance, facts)
    wrong = spoilt(chance, machine.credential, secrets_of(facts))
    body = {"token": wrong.decode("latin-1"), "info": {}, "system_id": "s_guest"}
    headers: Headers = [JSON, (b"RUNNER-TOKEN", wrong)]
    if chance.random() < 0.4:  # two that differ
        machine = facts.target
        pair = [machine.credential, spoilt(chance, machine.credential, secrets_of(facts)).decode("latin-1")]
        chance.shuffle(pair)
        body["token"] = pair[0]
        headers = [JSON, (b"RUNNER-TOKEN", pair[1].encode("latin-1"))]
    return b"POST", "/api/v4/jobs/request", headers, json.dumps(body).encode(), machine


def _updated(chance: random.Random, facts: Facts) -> Call:
    machine = facts.target
    token, wrong = machine.job_token, spoilt(chance, machine.job_token, secrets_of(facts))
    shown = [
        (token.encode(), wrong.decode("latin-1")),
        (wrong, token),
        (wrong, wrong.decode("latin-1")),
        (None, None),
    ]
    header, inside = chance.choice(shown)
    said = {"state": chance.choice(("success", "failed", "running")), "exit_code": 0}
    if inside is not None:
        said["token"] = inside
    headers: Headers = [JSON] if header is None else [JSON, (b"JOB-TOKEN", header)]
    return b"PUT", f"/api/v4/jobs/{machine.job_id}", headers, json.dumps(said).encode(), machine


def _traced(chance: random.Random, facts: Facts) -> Call:
    machine, job = _victim(chance, facts), None
    wrong = spoilt(chance, machine.job_token, secrets_of(facts))
    headers: Headers = [(b"JOB-TOKEN", wrong)]
    if chance.random() < 0.4:
        machine = facts.target
        right = machine.job_token.encode()
        headers = chance.choice(
            (
                [(b"JOB-TOKEN", right)] * 2,
                [(b"PRIVATE-TOKEN", right)],
                [(b"Authorization", b"Bearer " + right)],
            )
        )
        if chance.random() < 0.3:
            headers, job = [(b"JOB-TOKEN", right)], facts.honest.job_id
    text = b"this was never said\n"
    start = chance.choice((0, 10, 2**31, 2**63))
    headers.append((b"Content-Range", b"%d-%d" % (start, start + len(text) - 1)))
    return b"PATCH", f"/api/v4/jobs/{job or machine.job_id}/trace", headers, text, machine


def _moved(chance: random.Random, facts: Facts) -> Call:
    machine = _victim(chance, facts)
    wrong = spoilt(chance, machine.job_token, secrets_of(facts))
    method = chance.choice((b"GET", b"POST"))
    body = b"PK\x05\x06" + bytes(18) if method == b"POST" else None
    query = chance.choice(("", "?artifact_type=trace", "?token=" + machine.job_token))
    return method, f"/api/v4/jobs/{machine.job_id}/artifacts{query}", [(b"JOB-TOKEN", wrong)], body, machine
