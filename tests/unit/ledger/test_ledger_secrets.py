"""Secrets at rest: the keyring, its rotation, and what stands in the files."""

from __future__ import annotations

from pathlib import Path

import pytest
from ledger_given import ANSWER, A, B, job_assigned, machine_in, new_job

from firerunner.errors import KeyMissing, StaleWrite
from firerunner.ledger import Keyring, Ledger, MachineState
from firerunner.ledger.keyring import rotating
from firerunner.ledger.secrets import Standing

CANARIES = (b"canary-job-token", b"canary-ci-secret")


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_new_key_file_is_private_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "made" / "keys"

    stored = Keyring.load_or_create(path).encrypt(b"secret")

    assert (mode(path), mode(path.parent)) == (0o600, 0o700)
    assert Keyring.load_or_create(path).decrypt(stored) == b"secret"


def test_a_key_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    Keyring.load_or_create(path)
    path.chmod(0o640)

    with pytest.raises(KeyMissing, match="chmod 0600"):
        Keyring.load_or_create(path)


@pytest.mark.parametrize("text", ["", "\n", "not a key\n", "\u00fc\n"])
def test_a_broken_key_file_is_refused_and_left_as_it_is(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys"
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")

    with pytest.raises(KeyMissing, match="one Fernet key"):
        Keyring.load_or_create(path)

    assert path.read_text(encoding="utf-8") == text


def test_the_first_key_encrypts_and_all_decrypt(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    old = Keyring.load_or_create(path)
    stored = old.encrypt(b"secret")

    both = Keyring.add_key(path)

    assert mode(path) == 0o600
    assert Keyring.load_or_create(path).decrypt(stored) == b"secret"
    assert old.decrypt(both.encrypt(b"secret")) == b"secret", "it has taken up the new file"
    with pytest.raises(KeyMissing, match="any key"):
        Keyring.generate().decrypt(stored)
    with pytest.raises(KeyMissing):
        Keyring.generate().renew(stored)


def test_a_mark_is_the_same_for_the_same_until_another_key_is_the_first(tmp_path: Path) -> None:
    path = tmp_path / "ledger.key"
    first = Keyring.load_or_create(path)
    mark = first.mark(b"password")

    assert Keyring.load_or_create(path).mark(b"password") == mark
    assert len({mark, first.mark(b"passwort"), Keyring.generate().mark(b"password")}) == 3
    Keyring.add_key(path)
    assert first.mark(b"password") != mark


def test_a_keyring_in_use_takes_up_a_file_that_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    service = Keyring.load_or_create(path)
    in_hand = service.encrypt(b"in hand")
    Keyring.add_key(path)
    with_two = service.encrypt(b"with two")

    only = Keyring.keep_first(path)

    assert Keyring.count(path) == 1
    assert mode(path) == 0o600
    assert only.is_first(with_two)
    assert not only.is_first(in_hand)
    assert service.decrypt(in_hand) == b"in hand", "it was read before the key was taken out"
    assert only.is_first(service.encrypt(b"later"))
    with pytest.raises(KeyMissing):
        only.decrypt(in_hand)


@pytest.mark.parametrize("text", [None, "", "not a key\n"])
def test_a_file_that_is_gone_or_wrong_meanwhile_changes_nothing(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "keys"
    service = Keyring.load_or_create(path)
    stored = service.encrypt(b"secret")
    path.unlink()
    if text is not None:
        path.touch(mode=0o600)
        path.write_text(text)

    assert service.decrypt(stored) == b"secret"
    assert service.is_first(service.encrypt(b"more"))


def test_one_that_died_while_it_wrote_a_key_file_is_no_hindrance(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    Keyring.load_or_create(path)
    path.with_name("keys.new").write_text("half a k")

    Keyring.add_key(path)

    assert Keyring.count(path) == 2
    assert not path.with_name("keys.new").exists()


def test_two_do_not_rotate_at_once(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    with rotating(path), pytest.raises(KeyMissing, match="already"), rotating(path):
        pass


def test_no_key_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "keys"

    assert path.name == "keys"
    assert Keyring.load_or_create(path).__repr__() == "Keyring(...)"


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
@pytest.mark.anyio
async def test_no_secret_stands_in_clear_in_the_files(ledger: Ledger, tmp_path: Path) -> None:
    await job_assigned(ledger)

    files = [path for path in (tmp_path / "state").iterdir() if path.name.startswith("ledger.db")]
    content = b"".join(path.read_bytes() for path in files)

    assert b"group/project" in content
    assert [canary for canary in CANARIES if canary in content] == []
    assert {mode(path) for path in files} == {0o600}
    assert mode(tmp_path / "state") == 0o700


@pytest.mark.anyio
async def test_no_secret_stands_in_records_and_journal(ledger: Ledger) -> None:
    await job_assigned(ledger)

    shown = f"{await ledger.journal()} {await ledger.jobs()} {await ledger.machines()} {new_job()}"

    assert "canary" not in shown


@pytest.mark.anyio
async def test_after_rekeying_the_old_key_is_not_needed(
    ledger: Ledger, url: str, tmp_path: Path, clock, monkeypatch
) -> None:
    monkeypatch.setattr("firerunner.ledger.secrets.REKEY_BATCH", 1)
    path = tmp_path / "state" / "keys"
    await job_assigned(ledger, A, 7)
    await job_assigned(ledger, B, 8)
    await ledger.aclose()
    both = await Ledger.open(url, Keyring.add_key(path), clock)
    assert await both.secrets_by_key() == {Standing.FIRST: 0, Standing.OLDER: 4, Standing.UNREADABLE: 0}

    count = await both.rekey()
    await both.aclose()

    only_new = Keyring(path.read_text().splitlines()[:1])
    again = await Ledger.open(url, only_new, clock)
    assert await again.secrets_by_key() == {Standing.FIRST: 4, Standing.OLDER: 0, Standing.UNREADABLE: 0}
    read = (await again.payload(7), await again.payload(8), await again.job_token(8))
    await again.aclose()
    assert count == 4
    assert read == (ANSWER, ANSWER, "canary-job-token")


@pytest.mark.anyio
async def test_a_wrong_key_says_so(ledger: Ledger, url: str, clock) -> None:
    await machine_in(ledger, MachineState.RESERVED)
    await ledger.keep_answer(A, ANSWER)
    await ledger.aclose()
    stranger = await Ledger.open(url, Keyring.generate(), clock)

    with pytest.raises(KeyMissing, match="key file"):
        await stranger.unread_answers()
    assert (await stranger.secrets_by_key())[Standing.UNREADABLE] == 1

    await stranger.aclose()


async def test_a_runner_of_a_sized_tag_is_kept_with_its_token_encrypted(ledger: Ledger, url: str) -> None:
    added = await ledger.add_sized_runner(
        pool="sized-2cpu-2gb",
        gitlab="gitlab",
        template="sized",
        tag="firecracker-2cpu-2gb",
        project_id=None,
        vcpu=2,
        memory_mib=2048,
        runner_id=7,
        token="glrt-canary",
    )
    with pytest.raises(StaleWrite):
        await ledger.add_sized_runner(
            pool=added.pool,
            gitlab="gitlab",
            template="sized",
            tag=added.tag,
            project_id=None,
            vcpu=2,
            memory_mib=2048,
            runner_id=8,
            token="glrt-other",
        )

    assert await ledger.sized_runners() == [added]
    assert await ledger.rekey() >= 1
    await ledger.begin_remove_sized_runner(added.pool, reason="unused")
    await ledger.begin_remove_sized_runner(added.pool, reason="unused")
    assert [runner.removing for runner in await ledger.sized_runners()] == [True]
    await ledger.remove_sized_runner(added.pool)
    assert await ledger.sized_runners() == []
    events = [entry.event for entry in await ledger.journal(subject=added.tag)]
    assert events == ["runner added", "withdrawn", "runner removed"]
    assert "glrt-canary" not in repr(added)
    if url.startswith("sqlite"):
        assert b"glrt-canary" not in Path(url.removeprefix("sqlite:///")).read_bytes()
