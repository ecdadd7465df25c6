"""YAML is read strictly, and in bounded time and memory."""

from typing import Any

import pytest

from igniter_opt.base.errors import InputError
from igniter_opt.base.yaml_files import MOST_YAML_VALUES, parse_yaml

# Nine lists of nine lists ...: 9^8 values in 400 bytes.
BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(f"a{k}: &a{k} [{','.join([f'*a{k - 1}'] * 9)}]\n" for k in range(1, 9))
MERGED = "a0: &a0 {x: 1}\n" + "".join(f"a{k}: &a{k} {{<<: [{','.join([f'*a{k - 1}'] * 9)}]}}\n" for k in range(1, 9))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 1\nb: [x, 1e3, 1.5]\n", {"a": 1, "b": ["x", 1000.0, 1.5]}),
        ("\ufeffa: 1\n", {"a": 1}),
        ("a: &s {k: 1}\nb: *s\nc: [*s, *s]\n", {"a": {"k": 1}, "b": {"k": 1}, "c": [{"k": 1}, {"k": 1}]}),
        ("a: &s {k: 1, m: 2}\nb: {<<: *s, k: 3}\nc: {<<: *s}\n", {"a": {"k": 1, "m": 2}, "b": {"k": 3, "m": 2}, "c": {"k": 1, "m": 2}}),  # noqa: E501
        ("1: a\n'1': b\n", {1: "a", "1": "b"}),
        ("[" * 50 + "]" * 50, None),
        ("", None),
    ],
)  # fmt: skip
def test_what_is_read(text: str, value: Any) -> None:
    found = parse_yaml(text, "x")
    assert found == value or (value is None and text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (BOMB, "line 6, column 22: not YAML (more than 300,000 values, counting what aliases stand for)"),
        (MERGED, "not YAML (more than 300,000 values, counting what aliases stand for)"),
        ("a: &a [*a]", "line 1, column 8: not YAML (the alias *a is within what it stands for)"),
        ("a: &a {b: {c: *a}}", "the alias *a is within what it stands for"),
        ("[" * 51, "line 1, column 51: not YAML (nested too deeply (over 50 levels))"),
        ("a: " + "{a: " * 10**5, "nested too deeply"),
        ("- " * 10**4, "nested too deeply"),
        ("a: 1\nb: 2\na: 3\n", "line 3, column 1: not YAML (the key 'a' is given twice)"),
        ("x: {<<: {a: 1}, b: 1, b: 2}", "the key 'b' is given twice"),
        ("k" * 200 + ": 1\n" + "k" * 200 + ": 1\n", "found"),
        ("? [a]\n: 1\n", "line 1, column 3: not YAML (a key must be text, not a list or mapping)"),
        ("a: *b", "not YAML (found undefined alias 'b')"),
        ("a: 1\n---\nb: 1\n", "not YAML"),
        ("a: \0", "not YAML (character 4 may not be in YAML)"),
        ("a: !!int ''", "not YAML"),
        ("a: !!float ''", "not YAML"),
        ("a: !!timestamp x", "not YAML"),
        ("a: !!bool maybe", "not YAML"),
        ("a: !!set [a]", "not YAML"),
        ("a: !!omap [1]", "not YAML"),
        ("a: !!binary é", "not YAML"),
        ("a: " + "9" * 5000, "not YAML"),
        ("a: !!python/object:os.system x", "not YAML"),
    ],
)
def test_what_is_refused(text: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_yaml(text, "x")
    said = str(caught.value)
    assert said.startswith("x: ")
    assert says in said or (says == "found" and len(said) < 400)
    assert len(said.splitlines()) == 1


def test_as_many_values_as_an_instance_needs() -> None:
    # An alias counts as all that it stands for.
    row = "a: &a [" + "1," * 998 + "1]\nb: ["
    assert len(parse_yaml(row + "*a," * 250 + "]", "x")["b"]) == 250
    with pytest.raises(InputError, match="more than"):
        parse_yaml(row + "*a," * (MOST_YAML_VALUES // 1000) + "]", "x")
