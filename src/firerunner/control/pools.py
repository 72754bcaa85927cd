"""The pools of this run: those that are declared now, and those that were and may still have machines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import sha256

from firerunner.settings import PoolSettings


class KnownPools(Mapping[str, PoolSettings]):
    """By name. A pool that is withdrawn keeps its last settings, by which its machines are ended."""

    def __init__(self, declared: Mapping[str, PoolSettings]) -> None:
        self._known = dict(declared)
        self._declared = frozenset(declared)

    def declare(self, pools: Mapping[str, PoolSettings]) -> None:
        """From now on these are the pools that get jobs."""
        self._known |= pools
        self._declared = frozenset(pools)

    def is_declared(self, name: str) -> bool:
        """True while the pool may get jobs."""
        return name in self._declared

    def serves(self, name: str, gitlab: str) -> bool:
        """True while the pool may get jobs of that GitLab; machines and jobs never change theirs."""
        return self.is_declared(name) and self._known[name].gitlab == gitlab

    def declared(self) -> list[PoolSettings]:
        """The pools that may get jobs."""
        return [self._known[name] for name in self._known if name in self._declared]

    def __getitem__(self, name: str) -> PoolSettings:
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


def runner_mark(pool: PoolSettings) -> str:
    """Tells one runner token from another without telling the token."""
    return sha256(pool.token.encode()).hexdigest()[:16]
