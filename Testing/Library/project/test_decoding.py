"""Dataclasses from JSON by their hints: what fits is converted, what does not is named with rule and value."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest

from SynthGANLib.decoding import Count, Filled, Match, Origin, Range, Whole, check_fields, decode
from SynthGANLib.errors import InputError, ModelError

ORIGIN = Origin("the job")


@dataclass(frozen=True)
class Inner:
    size: Whole
    name: str = ""


@dataclass(frozen=True)
class Outer:
    title: Filled
    share: Annotated[float, Range(0, 1)] = 0.5
    count: Count | None = None
    kind: Literal["a", "b"] = "a"
    on: bool = False
    names: tuple[str, ...] = ()
    extents: tuple[Whole, Whole, Whole] = (1, 1, 1)
    code: Annotated[str, Match(r"[A-Z]{2}", "two capitals")] = "MR"
    inner: Inner | None = None
    parts: Mapping[str, Inner] = field(default_factory=dict)
    free: Any = None


def refusal(content: Any) -> str:
    with pytest.raises(InputError) as caught:
        decode(Outer, content, ORIGIN)
    assert caught.value.next_step
    return str(caught.value)


def test_what_fits_is_converted() -> None:
    content = {
        "title": "x", "share": 1, "count": 3, "kind": "b", "on": True, "names": ["p", "q"], "extents": [0, 2, 3],
        "code": "CT", "inner": {"size": 0}, "parts": {"first": {"size": 4, "name": "n"}}, "free": [{"any": 1}],
    }  # fmt: skip
    found = decode(Outer, content, ORIGIN)
    assert found == Outer(
        "x", 1.0, 3, "b", True, ("p", "q"), (0, 2, 3), "CT", Inner(0), {"first": Inner(4, "n")}, [{"any": 1}]
    )
    assert type(found.share) is float
    assert decode(Outer, {"title": "only"}, ORIGIN) == Outer("only")


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("title", "", "text that is not empty"),
        ("title", "a\0b", "text that is not empty"),
        ("title", 7, "text that is not empty"),
        ("share", 1.5, "a number from 0 to 1"),
        ("share", True, "a number from 0 to 1"),
        ("share", math.nan, "a number from 0 to 1"),
        ("count", 0, "a whole number from 1 or null"),
        ("count", 2.0, "a whole number from 1 or null"),
        ("kind", "c", "one of a, b"),
        ("on", 1, "true or false"),
        ("names", "text", "a list of texts"),
        ("names", ["a", 1], "a list of texts"),
        ("extents", [1, 2], "3 values, each a whole number from 0"),
        ("extents", [1, 2, -3], "3 values, each a whole number from 0"),
        ("code", "mr", "two capitals"),
        ("parts", [], "an object"),
    ],
)
def test_what_does_not_fit_is_named_with_its_rule(name: str, value: Any, rule: str) -> None:
    said = refusal({"title": "x", name: value})
    assert said == f"The field '{name}' of the job must be {rule}, not {value!r:.80}."


def test_unknown_missing_and_nested_fields_are_named_by_their_place() -> None:
    assert refusal({"title": "x", "color": 1}) == "The job has the unknown field 'color'."
    assert refusal({}) == "The job lacks the field 'title'."
    assert refusal([1]).startswith("The field 'whole' of the job must be an object")
    assert "'inner.size'" in refusal({"title": "x", "inner": {"size": -1}})
    assert "the field 'inner.size'" in refusal({"title": "x", "inner": {}})
    assert "'parts.first.name'" in refusal({"title": "x", "parts": {"first": {"size": 1, "name": None}}})


def test_an_origin_decides_the_kind_of_error() -> None:
    with pytest.raises(ModelError, match=r"'model\.json'"):
        decode(Outer, {"title": 1}, Origin("'model.json'", ModelError))


def test_an_instance_checks_itself_in_the_same_way() -> None:
    made = Outer("x", extents=[1, 2, 3])  # type: ignore[arg-type]
    check_fields(made, ORIGIN)
    assert made.extents == (1, 2, 3)
    with pytest.raises(InputError, match="'count'"):
        check_fields(Outer("x", count=-1), ORIGIN)


def test_a_hint_without_a_reader_is_a_defect_and_no_user_error() -> None:
    @dataclass(frozen=True)
    class Odd:
        value: bytes

    with pytest.raises((TypeError, NameError)):
        decode(Odd, {"value": "x"}, ORIGIN)
