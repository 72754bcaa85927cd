"""What is collected: a real Flintlock's test only where a caller names one (`make test-flintlock`)."""

from __future__ import annotations

from tests.contract.real_flintlock import is_given

collect_ignore = [] if is_given() else ["test_real_flintlock.py"]
