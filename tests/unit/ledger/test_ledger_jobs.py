"""Jobs in the ledger: the hand-over, delivery, another machine, the end."""

from __future__ import annotations

import pytest
from ledger_given import ANSWER, A, B, job_assigned, machine_in, new_job

from firerunner.errors import IllegalTransition, StaleWrite
from firerunner.ledger import JobState, Ledger, MachineState, NewJob
from firerunner.ledger.states import JOB_TRANSITIONS
from firerunner.machines.spec import Resources

pytestmark = pytest.mark.anyio

SIZE = Resources(1, 1024, 4096)


async def test_a_taken_job_has_its_machine_and_its_payload(ledger: Ledger) -> None:
    job = await job_assigned(ledger)

    assert (job.state, job.machine_id, job.pool, job.attempts) == (JobState.ASSIGNED, A, "demo", 1)
    assert job.has_payload
    assert await ledger.job(7) == job
    assert await ledger.job_of_machine(A) == job
    machine = await ledger.machine(A)
    assert (machine.job_id, machine.room_held, machine.ask_started_at) == (7, True, None)
    assert await ledger.payload(7) == ANSWER
    assert await ledger.job_token(7) == "canary-job-token"
    assert (await ledger.offered(A))[2] == (ANSWER, "canary-job-token")
    assert await ledger.tied(A) == (machine, job, "canary-job-token", ANSWER)
    assert await ledger.unread_answers() == []


async def test_the_hand_over_is_journalled_step_by_step(ledger: Ledger) -> None:
    await job_assigned(ledger)

    steps = [(entry.event, entry.from_state, entry.to_state) for entry in await ledger.journal(subject="7")]
    assert steps == [("taken", None, "taken"), ("moved", "taken", "assigned")]


async def test_an_answer_is_kept_by_the_write_that_takes_its_job(ledger: Ledger) -> None:
    await machine_in(ledger, MachineState.RESERVED)
    await ledger.begin_ask(A)

    job = await ledger.take(A, new_job(), ANSWER)

    assert (job.state, job.has_payload) == (JobState.ASSIGNED, True)
    assert await ledger.payload(job.job_id) == ANSWER
    assert await ledger.unread_answers() == []


async def test_a_refused_job_keeps_nothing_of_its_answer(ledger: Ledger) -> None:
    await job_assigned(ledger)
    await machine_in(ledger, MachineState.RESERVED, B)

    with pytest.raises(StaleWrite):
        await ledger.take(B, new_job(), ANSWER)

    assert await ledger.unread_answers() == []


async def test_an_answer_outlives_a_crash_before_it_is_read(ledger: Ledger, url, keys, clock) -> None:
    await machine_in(ledger, MachineState.RESERVED)
    await ledger.begin_ask(A)
    await ledger.keep_answer(A, ANSWER)
    await ledger.aclose()

    again = await Ledger.open(url, keys, clock)
    unread = await again.unread_answers()
    job = await again.take(A, new_job())
    await again.aclose()

    assert unread == [(A, ANSWER)]
    assert (job.state, job.has_payload) == (JobState.ASSIGNED, True)


async def test_an_unread_answer_keeps_the_room_after_the_ask(ledger: Ledger) -> None:
    await machine_in(ledger, MachineState.RESERVED)
    await ledger.begin_ask(A)
    await ledger.keep_answer(A, ANSWER)

    assert (await ledger.end_ask(A)).room_held


async def test_an_answer_that_cannot_be_read_is_discarded_with_a_reason(ledger: Ledger) -> None:
    await machine_in(ledger, MachineState.RESERVED)
    await ledger.keep_answer(A, b"<html>")

    await ledger.discard_answer(A, "not JSON")

    assert await ledger.unread_answers() == []
    assert (await ledger.journal())[-1].detail == {"reason": "not JSON"}
    with pytest.raises(StaleWrite, match="no unread answer"):
        await ledger.discard_answer(A, "again")


async def test_taking_twice_changes_nothing(ledger: Ledger) -> None:
    first = await job_assigned(ledger)
    history = await ledger.journal()

    assert await ledger.take(A, new_job()) == first
    assert await ledger.journal() == history


async def test_a_job_is_never_taken_for_two_machines(ledger: Ledger) -> None:
    await job_assigned(ledger)
    await machine_in(ledger, MachineState.RESERVED, B)

    with pytest.raises(StaleWrite, match=f"taken before, for machine {A}"):
        await ledger.take(B, new_job())

    assert (await ledger.machine(B)).job_id is None


@pytest.mark.parametrize("state", [MachineState.RETIRING, MachineState.GONE])
async def test_a_job_for_a_machine_that_died_meanwhile_waits_for_another(ledger: Ledger, state) -> None:
    await machine_in(ledger, state)
    await ledger.keep_answer(A, ANSWER)

    job = await ledger.take(A, new_job())

    assert (job.state, job.machine_id, job.has_payload) == (JobState.TAKEN, None, True)


async def test_a_machine_gets_one_job_only(ledger: Ledger) -> None:
    await job_assigned(ledger)

    second = await ledger.take(A, new_job(8))

    assert (second.state, second.machine_id) == (JobState.TAKEN, None)


async def test_delivery_moves_job_and_machine_together(ledger: Ledger) -> None:
    await machine_in(ledger, MachineState.WAITING)
    await ledger.keep_answer(A, ANSWER)
    await ledger.take(A, new_job())

    job, machine = await ledger.deliver(7)

    assert (job.state, machine.state) == (JobState.DELIVERED, MachineState.BUSY)
    assert (await ledger.job(7), await ledger.machine(A)) == (job, machine)


async def test_delivery_before_the_machine_waits_changes_neither(ledger: Ledger) -> None:
    await job_assigned(ledger)

    with pytest.raises(StaleWrite, match="is reserved, not waiting as expected"):
        await ledger.deliver(7)

    assert (await ledger.job(7)).state is JobState.ASSIGNED


async def test_the_first_call_is_noted_and_the_end_has_gitlabs_words(ledger: Ledger, clock) -> None:
    await job_assigned(ledger)
    await ledger.move_job(7, JobState.DELIVERED)
    clock.now = 1010.0
    await ledger.move_job(7, JobState.RUNNING, gitlab_status="running")
    clock.now = 1020.0

    job = await ledger.move_job(
        7, JobState.ENDED, gitlab_status="failed", failure_reason="script_failure", expect=JobState.RUNNING
    )

    assert await ledger.job(7) == job
    assert (job.first_call_at, job.state_since) == (1010.0, 1020.0)
    assert (job.gitlab_status, job.failure_reason) == ("failed", "script_failure")
    assert await ledger.jobs() == []
    assert [j.job_id for j in await ledger.jobs({JobState.ENDED})] == [7]


@pytest.mark.parametrize("to", sorted(set(JobState) - JOB_TRANSITIONS[JobState.ASSIGNED]))
async def test_only_what_the_table_says_is_written(ledger: Ledger, to: JobState) -> None:
    await job_assigned(ledger)

    with pytest.raises(
        IllegalTransition, match=f"job 7 cannot go from assigned to {to}; from assigned it may"
    ):
        await ledger.move_job(7, to)


async def test_final_is_final(ledger: Ledger) -> None:
    await job_assigned(ledger)
    await ledger.move_job(7, JobState.RETURNED)

    with pytest.raises(IllegalTransition, match="returned is final"):
        await ledger.move_job(7, JobState.RUNNING)


async def test_a_writer_with_an_old_view_is_refused(ledger: Ledger) -> None:
    await job_assigned(ledger)

    with pytest.raises(StaleWrite, match="is assigned, not running as expected"):
        await ledger.move_job(7, JobState.ENDED, expect=JobState.RUNNING)


async def test_a_homeless_job_loses_its_machine_and_gets_another(ledger: Ledger) -> None:
    await job_assigned(ledger)
    homeless = await ledger.move_job(7, JobState.TAKEN, reason="VMM killed")
    await machine_in(ledger, MachineState.RESERVED, B)

    job = await ledger.reassign(7, B)

    assert (homeless.state, homeless.machine_id) == (JobState.TAKEN, None)
    assert (job.state, job.machine_id, job.attempts, job.has_payload) == (JobState.ASSIGNED, B, 2, True)
    assert await ledger.job_of_machine(A) is None
    assert (await ledger.machine(B)).job_id == 7


async def test_reassigning_an_assigned_job_goes_through_taken(ledger: Ledger) -> None:
    await job_assigned(ledger)
    await machine_in(ledger, MachineState.WAITING, B)
    before = (await ledger.journal())[-1].seq

    await ledger.reassign(7, B)
    await ledger.reassign(7, B)  # a second time changes nothing

    steps = [(entry.from_state, entry.to_state) for entry in await ledger.journal(after=before)]
    assert steps == [("assigned", "taken"), ("taken", "assigned")]


async def test_a_delivered_job_is_never_given_to_another_machine(ledger: Ledger) -> None:
    await job_assigned(ledger)
    await ledger.move_job(7, JobState.DELIVERED)
    await machine_in(ledger, MachineState.RESERVED, B)

    with pytest.raises(IllegalTransition, match="cannot go from delivered to taken"):
        await ledger.reassign(7, B)


async def test_a_kept_id_that_gets_a_homeless_job_holds_its_room_again(ledger: Ledger) -> None:
    await job_assigned(ledger)
    await machine_in(ledger, MachineState.RESERVED, B)
    await ledger.begin_ask(B)
    await ledger.end_ask(B)

    await ledger.reassign(7, B)

    assert (await ledger.machine(B)).room_held


@pytest.mark.parametrize("state", [MachineState.RETIRING, MachineState.GONE])
async def test_a_job_is_not_given_to_a_machine_that_ends(ledger: Ledger, state: MachineState) -> None:
    await job_assigned(ledger)
    await machine_in(ledger, state, B)

    with pytest.raises(StaleWrite, match="cannot take job 7"):
        await ledger.reassign(7, B)

    assert (await ledger.job(7)).machine_id == A


async def test_a_job_is_not_given_to_a_machine_of_another_pool(ledger: Ledger) -> None:
    await job_assigned(ledger)
    await machine_in(ledger, MachineState.RESERVED, B, pool="other")

    with pytest.raises(StaleWrite, match="of pool other"):
        await ledger.reassign(7, B)


async def test_a_job_is_assigned_only_by_naming_its_machine(ledger: Ledger) -> None:
    await job_assigned(ledger)
    await ledger.move_job(7, JobState.TAKEN)

    with pytest.raises(IllegalTransition, match="reassign"):
        await ledger.move_job(7, JobState.ASSIGNED)


async def test_trace_bytes_are_set_and_added(ledger: Ledger) -> None:
    await job_assigned(ledger)

    await ledger.set_trace_bytes({7: 100})
    await ledger.add_trace_bytes(7, 2**33)

    assert (await ledger.job(7)).trace_bytes == 100 + 2**33


async def test_secrets_go_when_they_are_not_needed_any_more(ledger: Ledger) -> None:
    await job_assigned(ledger)

    assert await ledger.drop_payload(7) is True
    assert (await ledger.payload(7), await ledger.job_token(7)) == (None, "canary-job-token")
    assert (await ledger.offered(A))[2] is None
    assert (await ledger.job(7)).has_payload is False
    await ledger.move_job(7, JobState.RETURNED)
    assert await ledger.job_token(7) is None


async def test_the_first_call_of_a_job_takes_its_payload_with_it(ledger: Ledger) -> None:
    await job_assigned(ledger)
    await ledger.move_job(7, JobState.DELIVERED)

    running = await ledger.move_job(7, JobState.RUNNING)

    assert running == await ledger.job(7)
    assert (await ledger.payload(7), await ledger.job_token(7)) == (None, "canary-job-token")


async def test_the_end_of_a_job_takes_its_payload_with_it(ledger: Ledger) -> None:
    await job_assigned(ledger)

    over = await ledger.move_job(7, JobState.ENDED)

    assert over.has_payload is False
    assert (await ledger.payload(7), await ledger.job_token(7)) == (None, None)
    assert await ledger.job(7) == over


async def test_an_unknown_job_is_none_to_readers_and_stale_to_writers(ledger: Ledger) -> None:
    assert (await ledger.job(7), await ledger.payload(7), await ledger.job_token(7)) == (None, None, None)
    assert (await ledger.offered(A), await ledger.tied(A)) == ((None,) * 3, (None,) * 4)
    with pytest.raises(StaleWrite, match="no job 7"):
        await ledger.move_job(7, JobState.ENDED)


async def test_two_gitlabs_may_give_jobs_of_the_same_number(ledger: Ledger) -> None:
    for machine_id, gitlab in (("fr-aaaaaaaaaaaa", "one"), ("fr-bbbbbbbbbbbb", "two")):
        await ledger.reserve(machine_id, "small", "local", SIZE, "digest", gitlab=gitlab)
    new = NewJob(7, "glcbt-7", "build", 1, "group/app", 3600)

    first = await ledger.take("fr-aaaaaaaaaaaa", new)
    second = await ledger.take("fr-bbbbbbbbbbbb", new)

    assert (first.job_id, first.gitlab, first.gitlab_job_id) == (7, "one", 7)
    assert (second.gitlab, second.gitlab_job_id) == ("two", 7)
    assert second.job_id >= 1 << 62
    assert await ledger.take("fr-bbbbbbbbbbbb", new) == second
    assert await ledger.job_of_machine("fr-bbbbbbbbbbbb") == second


async def test_a_number_of_the_ledgers_own_is_used_once(ledger: Ledger) -> None:
    letters = "abcd"
    for letter, gitlab in zip(letters, ("one", "two", "three", "four"), strict=True):
        await ledger.reserve(f"fr-{letter * 12}", "small", "local", SIZE, "digest", gitlab=gitlab)

    taken = [
        await ledger.take(f"fr-{letter * 12}", NewJob(7, "t", "build", 1, "group/app", None))
        for letter in letters
    ]

    assert len({job.job_id for job in taken}) == len(letters)
    assert {job.gitlab_job_id for job in taken} == {7}
