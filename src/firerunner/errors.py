"""The one tree of errors that FireRunner raises on purpose.

```
FireRunnerError
├── SettingsError          the configuration is wrong: file, key, what is expected
├── LedgerError            the database
│   ├── IllegalTransition  a state change that the tables in ledger.states do not allow
│   ├── StaleWrite         the row is not in the state that the writer saw
│   ├── NotLeader          another controller holds the lease, or holds it now
│   └── KeyMissing         stored secrets cannot be read with the keys given
├── GitLabError            what GitLab answered, or that it did not
│   ├── TokenRefused       403 or 401: a revoked, expired or wrong token
│   ├── CallRefused        GitLab understood and said no: 400, 403, 404, 409, 422 (`status`)
│   ├── BadAnswer          an answer that does not follow the protocol (HTML, wrong types, cut)
│   └── Unreachable        no connection, time-out, or 5xx and 429 (`retry_after_s`)
├── MachineError           a driver could not do what was asked
│   ├── NoRoom             the host is full
│   ├── HostUnusable       a program, device or right that the driver needs is missing
│   │   └── HostUnreachable  no connection, or no answer in time: what was asked may have happened
│   ├── SpecRefused        the host understood and said no to such a machine
│   └── BootFailed         the VMM ended or hung before the guest gave a sign of life
└── ImageError             build, store, or check of an image
    ├── ImageMissing       no image of that name or digest in the store
    └── DigestMismatch     a file is not what the manifest says
```

Every message says what was wrong, where, and what to do; `remedy` holds the last part.
"""

from __future__ import annotations


class FireRunnerError(Exception):
    """Base of all errors raised on purpose. `remedy` tells the operator what to do."""

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        stop = "" if self.message.endswith(("?", "!")) else "."
        return f"{self.message}{stop} {self.remedy}" if self.remedy else self.message


class SettingsError(FireRunnerError):
    """The configuration is wrong."""


class LedgerError(FireRunnerError):
    """The database refused, or holds something unexpected."""


class IllegalTransition(LedgerError):
    """A state change that the tables in `ledger.states` do not allow."""


class StaleWrite(LedgerError):
    """The row is no longer in the state that the writer saw."""


class NotLeader(LedgerError):
    """Another controller holds the lease."""


class KeyMissing(LedgerError):
    """Stored secrets cannot be read with the keys given."""


class GitLabError(FireRunnerError):
    """GitLab answered with an error, or not at all."""


class TokenRefused(GitLabError):
    """GitLab refused a token."""


class CallRefused(GitLabError):
    """GitLab understood the call and said no, with this HTTP `status`."""

    def __init__(self, message: str, *, status: int, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.status = status


class BadAnswer(GitLabError):
    """GitLab's answer does not follow the protocol."""


class Unreachable(GitLabError):
    """GitLab cannot be reached now, or asks to be left alone for `retry_after_s` seconds."""

    def __init__(self, message: str, *, remedy: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.retry_after_s = retry_after_s


class MachineError(FireRunnerError):
    """A driver could not do what was asked."""


class NoRoom(MachineError):
    """The host is full."""


class HostUnusable(MachineError):
    """A program, device or right that the driver needs is missing."""


class HostUnreachable(HostUnusable):
    """There is no connection to the host, or no answer in time: what was asked may have happened."""


class SpecRefused(MachineError):
    """The host understood what was asked for, and makes no such machine."""


class BootFailed(MachineError):
    """The VMM ended or hung before the guest gave a sign of life."""


class ImageError(FireRunnerError):
    """An image could not be built, stored or checked."""


class ImageMissing(ImageError):
    """No image of that name or digest is in the store."""


class DigestMismatch(ImageError):
    """A file of an image is not what its manifest says."""
