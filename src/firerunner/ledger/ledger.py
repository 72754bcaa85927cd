"""The ledger's one face: every read and every write of the database goes through it."""

from __future__ import annotations

from firerunner.ledger.access import Access
from firerunner.ledger.job_calls import JobCalls
from firerunner.ledger.keyring import Keyring
from firerunner.ledger.machine_calls import MachineCalls
from firerunner.ledger.moves import Onlooker
from firerunner.ledger.operator_calls import OperatorCalls
from firerunner.ledger.records import Clock
from firerunner.ledger.upkeep_calls import UpkeepCalls


class Ledger(MachineCalls, JobCalls, OperatorCalls, UpkeepCalls):
    """A handle on the database. `acting_as` gives one that writes in the leader's name.

    Every write is one transaction, durable when the call returns, and raises `NotLeader` if the handle's
    epoch is over, `StaleWrite` if a row is missing or not as expected, and `LedgerError` if the
    database fails. Reads of a single row give None where there is none.
    """

    @classmethod
    async def open(cls, url: str, keys: Keyring, clock: Clock, *, as_it_is: bool = False) -> Ledger:
        """Open the database at `url` (`sqlite:///PATH`), making it or bringing its tables up to date.

        `as_it_is`: its tables are not touched; for commands beside a service of another version. Raises
        `LedgerError` if it cannot be opened, was written by a newer version, or `as_it_is` by another one.
        """
        return cls(await Access.open(url, keys, clock, as_it_is=as_it_is))

    async def aclose(self) -> None:
        """Finish the writes that have been asked for and close the database, for all handles."""
        await self._access.aclose()

    @property
    def clock(self) -> Clock:
        """By which it writes; a `SteadyClock` goes by a PostgreSQL server's time."""
        return self._access.clock

    def show_to(self, onlooker: Onlooker) -> None:
        """Tell it what this process writes from now on, through whichever handle, and how long all takes."""
        self._access.onlookers.append(onlooker)

    def acting_as(self, epoch: int) -> Ledger:
        """A handle on the same database whose writes are fenced by `epoch`."""
        return Ledger(self._access.acting_as(epoch))

    @property
    def epoch(self) -> int | None:
        """The epoch in which this handle writes; None for an observer, who is not fenced."""
        return self._access.epoch
