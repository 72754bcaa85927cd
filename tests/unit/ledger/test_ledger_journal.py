"""Journal, side effects, the lease and its fence, pruning."""

from __future__ import annotations

import pytest
from ledger_given import ANSWER, SMALL, A, B, job_assigned, machine_in, new_job

from firerunner.errors import NotLeader, StaleWrite
from firerunner.ledger import JobState, Lease, Ledger, MachineState

pytestmark = pytest.mark.anyio


async def test_the_journal_is_read_in_pages_and_by_subject(ledger: Ledger) -> None:
    for number in range(5):
        await ledger.note("pool", f"p{number % 2}", "paused", {"number": number})

    first = await ledger.journal(limit=3)
    rest = await ledger.journal(after=first[-1].seq)

    assert [entry.detail["number"] for entry in first + rest] == [0, 1, 2, 3, 4]
    assert [entry.detail["number"] for entry in await ledger.journal(subject="p1")] == [1, 3]
    assert [entry.detail["number"] for entry in await ledger.last_journal(limit=2)] == [3, 4]


async def test_a_side_effect_is_unfinished_until_it_is_done(ledger: Ledger) -> None:
    seq = await ledger.intend("create", A, {"host": "local"})
    [open_one] = await ledger.unfinished()

    await ledger.done(seq, "created")

    assert (open_one.seq, open_one.event, open_one.subject, open_one.to_state) == (
        seq,
        "create",
        A,
        "intended",
    )
    assert await ledger.unfinished() == []
    entry = (await ledger.journal())[-1]
    assert (entry.event, entry.from_state, entry.to_state) == ("create", "intended", "done")
    assert entry.detail == {"intent": seq, "outcome": "created"}
    with pytest.raises(StaleWrite, match="no unfinished side effect"):
        await ledger.done(seq)


async def test_the_first_leader_has_epoch_one_and_keeps_it_with_each_beat(ledger: Ledger) -> None:
    epochs = [await ledger.lead("me"), await ledger.lead("me")]

    assert epochs == [1, 1]
    assert await ledger.lease() == Lease("me", 1, 1)
    with pytest.raises(NotLeader, match=r"me leads \(epoch 1\)"):
        await ledger.lead("other")


async def test_another_leads_only_if_the_heart_has_not_beaten_since_it_looked(ledger: Ledger) -> None:
    await ledger.lead("me")
    seen = await ledger.lease()
    await ledger.lead("me")
    with pytest.raises(NotLeader):
        await ledger.lead("other", silent=seen)

    assert await ledger.lead("other", silent=await ledger.lease()) == 2
    with pytest.raises(NotLeader):
        await ledger.lead("me", silent=seen)


async def test_another_leads_at_once_after_a_resignation_or_by_force(ledger: Ledger) -> None:
    await ledger.lead("me")
    await ledger.resign("nobody")
    await ledger.resign("me")

    assert await ledger.lead("other") == 2
    assert await ledger.lead("third", force=True) == 3


async def test_a_former_leader_writes_nothing_and_observers_go_on(ledger: Ledger) -> None:
    old = ledger.acting_as(await ledger.lead("me"))
    await old.reserve(A, "demo", "local", SMALL, "sha256:1")
    new = ledger.acting_as(await ledger.lead("other", force=True))

    with pytest.raises(NotLeader, match="epoch 1, but now it is epoch 2"):
        await old.move_machine(A, MachineState.FAILED)
    with pytest.raises(NotLeader):
        await old.reserve(B, "demo", "local", SMALL, "sha256:1")
    await ledger.note("machine", A, "seen")
    await new.move_machine(A, MachineState.CREATING)

    history = [(entry.event, entry.epoch) for entry in await ledger.journal(subject=A)]
    assert history == [("reserved", 1), ("seen", None), ("moved", 2)]
    assert await ledger.machine(B) is None


async def test_pruning_removes_what_is_over_and_old_and_nothing_else(ledger: Ledger, clock) -> None:
    await job_assigned(ledger, A, 7)  # ends, and its machine goes
    await ledger.move_job(7, JobState.ENDED)
    await ledger.move_machine(A, MachineState.RETIRING)
    await ledger.move_machine(A, MachineState.GONE)
    await job_assigned(ledger, B, 8)  # goes on
    intent = await ledger.intend("create", B)
    clock.now = 9000.0
    await ledger.note("pool", "demo", "young")

    pruned = await ledger.prune(before=5000.0)

    assert (pruned.jobs, pruned.machines) == (1, 1)
    assert (await ledger.job(7), await ledger.machine(A)) == (None, None)
    assert (await ledger.job(8)).has_payload
    assert [entry.seq for entry in await ledger.unfinished()] == [intent]
    assert [(entry.event) for entry in await ledger.journal()] == ["create", "young"]
    await ledger.done(intent)


async def test_pruning_goes_on_batch_by_batch(ledger: Ledger, clock, monkeypatch) -> None:
    monkeypatch.setattr("firerunner.ledger.upkeep_calls.PRUNE_BATCH", 2)
    for _ in range(5):
        await ledger.note("pool", "demo", "paused")
    last = (await ledger.journal())[-1].seq

    assert (await ledger.prune(before=2000.0)).journal == 5
    assert await ledger.note("pool", "demo", "paused") > last  # a reader's place stays valid


async def test_an_unread_answer_is_never_pruned(ledger: Ledger) -> None:
    await machine_in(ledger, MachineState.GONE)
    await ledger.keep_answer(A, ANSWER)

    assert (await ledger.prune(before=2000.0)).machines == 0
    assert (await ledger.take(A, new_job())).state is JobState.TAKEN


async def test_a_signal_is_received_once_and_by_the_leader_only(ledger: Ledger) -> None:
    old = ledger.acting_as(await ledger.lead("me"))
    new = ledger.acting_as(await ledger.lead("other", force=True))
    await ledger.send_signal("hook", {"project_id": 1})
    await ledger.send_signal("gate", {"event": "x"})

    with pytest.raises(NotLeader):
        await old.receive_signals()
    assert await new.receive_signals() == [("hook", {"project_id": 1}), ("gate", {"event": "x"})]
    assert await new.receive_signals() == []
