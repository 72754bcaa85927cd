"""Signed hooks: Standard Webhooks over the raw bytes, five minutes either way, and never twice."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Callable

import pytest
import standardwebhooks.webhooks
from door_given import JOB_HOOK, OTHER_SIGNING, SECRET, SIGNING, Given, gitlab, signature
from hypothesis import given as every
from hypothesis import strategies as st
from pydantic import SecretStr
from starlette.datastructures import Headers

from firerunner.intake.proofs import Proofs, by_signature
from firerunner.intake.replays import KEEP_S, Replays
from firerunner.settings import GitLabSettings

pytestmark = pytest.mark.anyio
BODY = json.dumps(JOB_HOOK).encode()

# The vector of the Standard Webhooks libraries' own tests.
VECTOR_KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
VECTOR_AT = 1614265330
VECTOR_BODY = b'{"test": 2432232314}'
VECTOR = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": str(VECTOR_AT),
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}


@pytest.fixture
def given() -> Given:
    given = Given()
    given.configure(gitlab(signing_token=SIGNING), failures_per_minute=1000)
    return given


@pytest.fixture
def in_the_vector_s_time(monkeypatch: pytest.MonkeyPatch) -> None:
    class Then(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Then:
            return cls.fromtimestamp(VECTOR_AT, tz)

    monkeypatch.setattr(standardwebhooks.webhooks, "datetime", Then)


@pytest.mark.usefixtures("in_the_vector_s_time")
async def test_the_vector_of_standard_webhooks_gets_in(given: Given) -> None:
    given.configure(gitlab(signing_token=VECTOR_KEY))

    answer = await given.post(VECTOR_BODY, VECTOR)

    assert answer.status_code == 200
    assert given.counted == ["not_understood"]


@pytest.mark.usefixtures("in_the_vector_s_time")
@pytest.mark.parametrize(
    "signatures",
    [
        "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc= {right}",
        "v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE= {right}",
        "{right} v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8A==",
        "v1 v1, nonsense v1,short= v1,a,b {right}",
    ],
)
async def test_one_right_signature_of_several_is_enough(given: Given, signatures: str) -> None:
    given.configure(gitlab(signing_token=VECTOR_KEY))
    headers = VECTOR | {"webhook-signature": signatures.format(right=VECTOR["webhook-signature"])}

    assert (await given.post(VECTOR_BODY, headers)).status_code == 200


@pytest.mark.usefixtures("in_the_vector_s_time")
@pytest.mark.parametrize(
    "changed",
    [
        {"webhook-id": "msg_other"},
        {"webhook-id": ""},
        {"webhook-timestamp": str(VECTOR_AT + 1)},
        {"webhook-timestamp": "nan"},
        {"webhook-timestamp": "9" * 400},
        {"webhook-signature": "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc="},
        {"webhook-signature": "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
        {"webhook-signature": "v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
        {"webhook-signature": "v1,"},
        {"webhook-signature": ""},
    ],
)
async def test_anything_else_in_the_headers_is_refused(given: Given, changed: dict[str, str]) -> None:
    given.configure(gitlab(signing_token=VECTOR_KEY))

    assert (await given.post(VECTOR_BODY, VECTOR | changed)).status_code == 401


@pytest.mark.parametrize("missing", sorted(VECTOR))
async def test_each_header_is_needed_once(given: Given, missing: str) -> None:
    right = signature(BODY)
    without = {name: value for name, value in right.items() if name != missing}

    assert (await given.post(BODY, without)).status_code == 401
    assert (await given.post(BODY, [*right.items(), (missing, right[missing])])).status_code == 401
    assert (await given.post(BODY, right)).status_code == 200


async def test_a_body_without_a_signature_is_not_read(given: Given) -> None:
    given.configure(gitlab(signing_token=SIGNING), max_body=1024)

    unsigned = await given.post(b"x" * 2048)
    signed = await given.post(b"x" * 2048, signature(b"x" * 2048))

    assert [unsigned.status_code, signed.status_code] == [401, 413]


@pytest.mark.usefixtures("in_the_vector_s_time")
async def test_of_very_many_signatures_only_the_first_count(given: Given) -> None:
    given.configure(gitlab(signing_token=VECTOR_KEY))
    wrong = "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc= "
    right = VECTOR["webhook-signature"]

    some = await given.post(VECTOR_BODY, VECTOR | {"webhook-signature": wrong * 15 + right})
    many = await given.post(VECTOR_BODY, VECTOR | {"webhook-signature": wrong * 16 + right})

    assert [some.status_code, many.status_code] == [200, 401]


async def test_a_changed_body_is_refused(given: Given) -> None:
    answer = await given.post(BODY.replace(b"380", b"381"), signature(BODY))

    assert answer.status_code == 401
    assert given.woken == []


async def test_a_body_that_was_only_written_differently_is_refused(given: Given) -> None:
    answer = await given.post(json.dumps(JOB_HOOK, indent=1).encode(), signature(BODY))

    assert answer.status_code == 401


async def test_a_signature_over_nonsense_is_accepted(given: Given) -> None:
    answer = await given.post(b"no JSON \xc3\xa9", signature(b"no JSON \xc3\xa9"))

    assert answer.status_code == 200


async def test_a_body_that_is_no_text_is_refused_without_an_error(given: Given) -> None:
    assert (await given.post(b"\xff", signature(b"x"))).status_code == 401


@pytest.mark.parametrize(
    ("off_s", "status"), [(-360, 401), (-240, 200), (0, 200), (240, 200), (360, 401), (-1_000_000, 401)]
)
async def test_the_time_may_differ_by_five_minutes_either_way(given: Given, off_s: int, status: int) -> None:
    answer = await given.post(BODY, signature(BODY, at=time.time() + off_s))

    assert answer.status_code == status


async def test_two_signing_tokens_are_valid_while_rotating(given: Given) -> None:
    given.configure(gitlab(signing_token=OTHER_SIGNING, signing_token_old=SIGNING))

    old = await given.post(BODY, signature(BODY, webhook_id="1"))
    new = await given.post(BODY, signature(BODY, webhook_id="2", key=OTHER_SIGNING))

    assert [old.status_code, new.status_code] == [200, 200]
    assert len(given.woken) == 2


async def test_a_copy_is_accepted_and_wakes_nobody(given: Given) -> None:
    headers = signature(BODY)

    answers = [await given.post(BODY, headers) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert len(given.woken) == 1
    assert given.counted == ["woke", "replayed", "replayed"]


async def test_a_copy_is_known_after_new_settings_too(given: Given) -> None:
    headers = signature(BODY)
    await given.post(BODY, headers)
    given.configure(gitlab(signing_token=SIGNING))

    await given.post(BODY, headers)

    assert given.counted == ["woke", "replayed"]


async def test_a_forged_copy_does_not_keep_the_right_one_out(given: Given) -> None:
    headers = signature(BODY)

    await given.post(b"{}", headers)
    await given.post(BODY, headers)

    assert given.counted == ["unauthenticated", "woke"]


@pytest.mark.parametrize(
    ("shown", "status"),
    [
        (lambda: SECRET | signature(BODY), 200),
        (lambda: SECRET, 401),
        (lambda: signature(BODY), 401),
        (lambda: {"X-Gitlab-Token": "wrong"} | signature(BODY), 401),
        (lambda: SECRET | signature(BODY, key=OTHER_SIGNING), 401),
    ],
)
async def test_what_is_configured_has_to_be_shown_all_of_it(
    given: Given, shown: Callable[[], dict[str, str]], status: int
) -> None:
    """Signed when the test runs, not when it is collected: signatures are good for five minutes."""
    given.configure(gitlab(secret="s3cret", signing_token=SIGNING))

    assert (await given.post(BODY, shown())).status_code == status


async def test_a_signature_that_nobody_asked_for_does_no_harm(given: Given) -> None:
    given.configure(gitlab(secret="s3cret"))

    assert (await given.post(BODY, SECRET | signature(BODY, key=OTHER_SIGNING))).status_code == 200


async def test_an_old_and_a_new_gitlab_side_by_side(given: Given) -> None:
    given.configure(gitlab("old", secret="s3cret"), gitlab("new", signing_token=SIGNING))

    await given.post(BODY, SECRET)
    await given.post(BODY, signature(BODY, webhook_id="1"))
    await given.post(BODY, SECRET | signature(BODY, webhook_id="2"))
    await given.post(BODY, SECRET | signature(BODY, webhook_id="2"))

    assert [hook.gitlab for hook in given.woken] == [("old",), ("new",), ("old", "new"), ("old",)]


@every(
    secret=st.booleans(),
    signing=st.booleans(),
    shows_secret=st.sampled_from(["right", "wrong", "none"]),
    shows_signature=st.sampled_from(["right", "wrong", "none"]),
)
def test_proven_means_that_all_that_is_configured_was_right(
    secret: bool, signing: bool, shows_secret: str, shows_signature: str
) -> None:
    settings = GitLabSettings(
        url="https://gitlab.example.com",
        webhook_secret=SecretStr("s3cret") if secret else None,
        webhook_signing_token=SecretStr(SIGNING) if signing else None,
    )
    headers = {
        "right": SECRET,
        "wrong": {"X-Gitlab-Token": "x"},
        "none": {},
    }[shows_secret] | {
        "right": signature(BODY),
        "wrong": signature(BODY, key=OTHER_SIGNING),
        "none": {},
    }[shows_signature]

    standing = Proofs([settings], insecure=False).by_headers(Headers(headers))
    proven = standing.by_secret + by_signature(standing, BODY)

    right = (shows_secret == "right" or not secret) and (shows_signature == "right" or not signing)
    assert bool(proven) == (right and (secret or signing))
    assert not (standing.hopeless and proven)


def test_ids_are_forgotten_after_their_time_and_when_there_are_too_many() -> None:
    now = [0.0]
    replays = Replays(remembered=3, clock=lambda: now[0])

    assert [replays.is_new("gitlab", webhook_id) for webhook_id in "abacdd"] == [
        True,
        True,
        False,
        True,
        True,
        False,
    ]
    assert [replays.is_new(name, "d") for name in ("other", "gitlab")] == [True, False]
    assert len(replays) <= 4
    now[0] = KEEP_S
    assert replays.is_new("gitlab", "d")
    assert len(replays) == 1
