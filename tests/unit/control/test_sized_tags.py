"""What a job's tags say about the size of its machine."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firerunner.planning.sized import Size, Template, Unserved, Wanted, judge, pool_name

SMALL = Template("small", ("firecracker", "microvm"), max_vcpu=4, max_memory_mib=8192)
LARGE = Template("large", ("firecracker",), max_vcpu=16, max_memory_mib=65_536)


@pytest.mark.parametrize(
    ("tag", "vcpu", "memory_mib", "template"),
    [
        ("firecracker-2cpu-2gb", 2, 2048, "small"),
        ("microvm-4cpu-8gb", 4, 8192, "small"),
        ("firecracker-8cpu-8gb", 8, 8192, "large"),
        ("firecracker-1cpu-64gb", 1, 65_536, "large"),
    ],
)
def test_the_first_template_that_is_large_enough_serves(
    tag: str, vcpu: int, memory_mib: int, template: str
) -> None:
    wanted = judge([tag], [SMALL, LARGE])

    assert isinstance(wanted, Wanted)
    assert (wanted.template, wanted.size.vcpu, wanted.size.memory_mib) == (template, vcpu, memory_mib)


@pytest.mark.parametrize("tags", [[], ["linux"], ["firecracker"], ["firecracker-linux"], ["other-2cpu-2gb"]])
def test_jobs_without_a_sized_tag_are_nobodys_business(tags: list[str]) -> None:
    assert judge(tags, [SMALL, LARGE]) is None


@pytest.mark.parametrize(
    "tag",
    [
        "firecracker-2cpu", "firecracker-2cpu-2g", "firecracker-0cpu-2gb", "firecracker-02cpu-2gb",
        "firecracker-2cpu-2gb-", "firecracker-2CPU-2GB", "Firecracker-2cpu-2gb", "firecracker-2cpu-2.5gb",
        "firecracker-2cpu-٢gb", "firecracker-2cpu-2gb\n",
    ],
)  # fmt: skip
def test_a_tag_that_is_nearly_right_is_explained(tag: str) -> None:
    refused = judge([tag], [SMALL, LARGE])

    assert isinstance(refused, Unserved)
    assert "the form is firecracker-4cpu-8gb" in refused.reason


def test_what_is_too_large_is_said_for_each_template() -> None:
    refused = judge(["firecracker-32cpu-128gb"], [SMALL, LARGE])

    assert refused == Unserved(
        "firecracker-32cpu-128gb",
        "it is too large (template small: 32 vCPU, at most 4 and 131072 MiB, at most 8192; "
        "template large: 32 vCPU, at most 16 and 131072 MiB, at most 65536)",
    )


@pytest.mark.parametrize("more", ["linux", "microvm-2cpu-2gb"])
def test_a_sized_tag_has_to_stand_alone(more: str) -> None:
    refused = judge(["firecracker-2cpu-2gb", more], [SMALL])

    assert isinstance(refused, Unserved)
    assert more in refused.reason


def test_names_are_plain_and_tell_prefixes_and_projects_apart() -> None:
    def name(prefix: str, project_id: int | None) -> str:
        size = Size(f"{prefix}-4cpu-8gb", prefix, 4, 8192)
        return pool_name("sized", size, first_prefix="firecracker", project_id=project_id)

    assert name("firecracker", None) == "sized-4cpu-8gb"
    assert name("firecracker", 12) == "sized-4cpu-8gb-p12"
    assert name("microvm", 12) == "sized-4cpu-8gb-p12-microvm"


names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?", fullmatch=True)
prefixes = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=1, max_size=30)
keys = st.tuples(
    names,
    prefixes,
    st.integers(1, 64),
    st.integers(1, 1024),
    st.none() | st.integers(1, 10**12),
)


@given(st.lists(keys, min_size=2, max_size=2, unique=True))
def test_each_runner_has_a_pool_name_of_its_own(two: list[tuple[str, str, int, int, int | None]]) -> None:
    made = [
        pool_name(template, Size("", prefix, vcpu, gb * 1024), first_prefix="firecracker", project_id=project)
        for template, prefix, vcpu, gb, project in two
    ]

    assert all(re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?", name) for name in made)
    assert made[0] != made[1]
