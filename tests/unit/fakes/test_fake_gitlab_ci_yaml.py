"""The subset of .gitlab-ci.yml."""

from __future__ import annotations

import pytest

from firerunner.fakes.gitlab.ci_yaml import CiYamlError, duration_s, parse


def test_a_whole_file() -> None:
    ci = parse(
        """
        stages: [build, test]
        variables: {A: 1, B: {value: two, description: why}}
        default: {tags: [vm], retry: 1}
        .hidden: {anything: goes}
        build:
          stage: build
          script: make
          artifacts: {paths: [out], expire_in: 2 days, when: always}
        test:
          stage: test
          tags: [big]
          script: [[one, two], three]
          parallel: 2
          retry: {max: 2, when: [runner_system_failure, stuck_or_timeout_failure]}
          dependencies: [build]
          allow_failure: {exit_codes: 3}
        """
    )
    build, first, second = ci.jobs
    assert ci.stages == (".pre", "build", "test", ".post")
    assert ci.variables == {"A": "1", "B": "two"}
    assert (build.script, build.tags, build.retry.max) == (("make",), ("vm",), 1)
    assert build.artifacts is not None
    assert (build.artifacts.paths, build.artifacts.when) == (("out",), "always")
    assert (first.name, second.name, second.node_index, second.node_total) == ("test 1/2", "test 2/2", 2, 2)
    assert (first.script, first.tags, first.allowed_exit_codes) == (("one", "two", "three"), ("big",), {3})
    assert first.retry.covers("runner_system_failure", 1)
    assert not first.retry.covers("runner_system_failure", 2)
    assert not first.retry.covers("script_failure", 0)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "must be a mapping"),
        ("a: [", "unknown"),
        ("stages: [x]", "at least one visible job"),
        (
            "a: {script: [x], scrpt: [y]}",
            r"jobs:a config contains unknown keys: scrpt \(did you mean script\?\)",
        ),
        ("a: {script: [x], cache: [y]}", "unknown keys: cache"),
        ("a: {tags: [x]}", "script can't be blank"),
        ("include: other.yml\na: {script: [x]}", "unknown global keyword or malformed job include"),
        ("a: {script: [x], stage: tset}", "chosen stage tset does not exist"),
        ("a: {script: [1]}", "only strings"),
        ("a: {script: {x: y}}", "string or a list of strings"),
        ("a: {script: [x], parallel: {matrix: []}}", "parallel should be a number"),
        ("a: {script: [x], retry: 3}", "from 0 to 2"),
        ("a: {script: [x], retry: {max: 1, when: runner_failure}}", "unknown value runner_failure"),
        ("a: {script: [x], timeout: soon}", "should be a duration"),
        ("a: {script: [x], artifacts: {path: [y]}}", r"did you mean paths\?"),
        ("a: {script: [x], artifacts: {paths: [y], expire_in: soon}}", "expire_in should be a duration"),
        ("a: {script: [x], when: manual}", "'manual' is not one of"),
        ("a: {script: [x], dependencies: [b]}", "undefined dependency b"),
        ("a: {script: [x], dependencies: [b]}\nb: {script: [x]}", "not defined in a prior stage"),
        ("variables: [x]\na: {script: [x]}", "variables should be a mapping"),
    ],
)
def test_what_is_refused_is_named(text: str, says: str) -> None:
    with pytest.raises(CiYamlError, match=says):
        parse(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(90, 90), ("10 minutes", 600), ("1h 30m", 5400), ("3 hours 30 minutes", 12600), ("2 weeks", 1209600)],
)
def test_durations(text: str | int, seconds: int) -> None:
    assert duration_s(text, "timeout") == seconds


@pytest.mark.parametrize("text", ["90", "soon", "1 fortnight", "10 minutes or so", "", True])
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(CiYamlError, match="timeout should be a duration"):
        duration_s(text, "timeout")
