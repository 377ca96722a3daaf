"""The card: what it accepts, what it refuses and how it says so."""

from __future__ import annotations

import copy
import dataclasses
import json
import random
from pathlib import Path
from typing import Any

import pytest
from model_folders import classical_card, network_card

from SynthGANLib.errors import ModelError
from SynthGANLib.model.card import Card, FileSpec, MethodSpec, SpatialSpec, TargetSpec
from SynthGANLib.model.card_text import RESEARCH_NOTICE, readme_of
from SynthGANLib.strict_json import JsonError, parse_json

DIGEST = "0" * 64


def put(content: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of ``content`` with the field at the dotted path set."""
    result = copy.deepcopy(content)
    *parents, last = path.split("/")
    place = result
    for name in parents:
        place = place[name]
    place[last] = value
    return result


@pytest.mark.parametrize("card", [network_card(), classical_card()], ids=["network", "classical"])
def test_json_round_trip(card: Card) -> None:
    assert Card.loads(card.dumps()) == card
    assert Card.loads(card.dumps()).dumps() == card.dumps()


def test_tuples_in_arguments_become_what_json_gives_back() -> None:
    card = network_card(method=MethodSpec("network", "UNet", {"widths": (4, 8)}))
    assert Card.from_json(card.to_json()) == card
    assert card.method.arguments == {"widths": [4, 8]}


def test_a_card_does_not_change_with_the_dictionaries_it_was_made_from() -> None:
    training = {"data": ["a"]}
    card = network_card(training=training)
    training["data"].append("b")
    assert card.training == {"data": ["a"]}


WRONG = [
    ("id", "Head MR", "id"),
    ("id", "../x", "id"),
    ("version", "1.0", "version"),
    ("title", "", "title"),
    ("title", "Two\nlines", "title"),
    ("source/sequences", ["T1\nT2"], "source.sequences[0]"),
    ("description", 7, "description"),
    ("research_only", 1, "research_only"),
    ("mask", "skull", "mask"),
    ("source/modality", "mr", "source.modality"),
    ("source/unit", "mm", "source.unit"),
    ("source/channels", True, "source.channels"),
    ("source/channels", 0, "source.channels"),
    ("source/sequences", "T1", "source.sequences"),
    ("source/sequences", ["T1", 2], "source.sequences[1]"),
    ("target/range", [2000, -1024], "target.range"),
    ("target/range", [0], "target.range"),
    ("target/background", -5000, "target.background"),
    ("target/unit", "RGB", "target.channels"),
    ("method/kind", "script", "method.kind"),
    ("method/name", "os.system", "method.name"),
    ("method/storage", "int8", "method.storage"),
    ("method/arguments", {"widths": [10**6]}, "method.arguments.widths[0]"),
    ("method/arguments", {"widths": [4] * 65}, "method.arguments.widths"),
    ("method/arguments", {"f": {"__class__": "x"}}, "method.arguments.f"),
    ("method/arguments", {"__init__": 1}, "method.arguments"),
    ("method/arguments", {"a": [[[[[[[[[1]]]]]]]]]}, "method.arguments.a[0][0][0][0][0][0][0][0]"),
    ("method/arguments", {"a": [{"b": {"__init__": 1}}]}, "method.arguments.a[0].b"),
    ("method/arguments", {"a": {"b": list(range(65))}}, "method.arguments.a.b"),
    ("spatial/dims", 4, "spatial.dims"),
    ("spatial/orientation", "LPP", "spatial.orientation"),
    ("spatial/spacing", [1, 1], "spatial.spacing"),
    ("spatial/spacing", [1, 1, 0], "spatial.spacing[2]"),
    ("spatial/axis", "axial", "spatial.axis"),
    ("spatial/neighbours", 1, "spatial.neighbours"),
    ("spatial/tile_max", [32, 32], "spatial.tile_max"),
    ("spatial/tile_max", [32, 32, 33], "spatial.tile_max"),
    ("spatial/tile_min", [64, 16, 16], "spatial.tile_min"),
    ("spatial/tile_fixed", True, "spatial.tile_min"),
    ("spatial/overlap", 0.95, "spatial.overlap"),
    ("spatial/fuse", "max", "spatial.fuse"),
    ("vector/tolerance", -1, "vector.tolerance"),
    ("vector", None, "vector"),
    ("normalisers", {"source": {"kind": "rgb"}}, "normalisers"),
    ("normalisers/source", {"low": 1}, "normalisers.source.kind"),
    ("metrics", {"MAE": 1}, "metrics.protocol"),
    ("files", [], "files"),
    ("files", {"../weights.safetensors": {"sha256": DIGEST, "bytes": 1}}, "files"),
    ("files", {"/etc/passwd.txt": {"sha256": DIGEST, "bytes": 1}}, "files"),
    ("files", {"C:\\x.txt": {"sha256": DIGEST, "bytes": 1}}, "files"),
    ("files", {"nul.txt": {"sha256": DIGEST, "bytes": 1}}, "files"),
    ("files", {"run.py": {"sha256": DIGEST, "bytes": 1}}, "files"),
    ("files", {"a.txt": {"sha256": DIGEST, "bytes": 1}, "A.txt": {"sha256": DIGEST, "bytes": 1}}, "files"),
    ("files", {"a.txt": {"sha256": "abc", "bytes": 1}}, "files['a.txt'].sha256"),
    ("files", {"a.txt": {"sha256": DIGEST, "bytes": -1}}, "files['a.txt'].bytes"),
    ("files", {"a.txt": {"sha256": DIGEST}}, "files['a.txt'].bytes"),
]


@pytest.mark.parametrize(("path", "value", "named"), WRONG, ids=[f"{p}={v!r:.30}" for p, v, _ in WRONG])
def test_a_wrong_field_is_named(path: str, value: Any, named: str) -> None:
    with pytest.raises(ModelError, match="Field") as caught:
        Card.from_json(put(network_card().to_json(), path, value))
    assert f"'{named}'" in str(caught.value)
    assert str(caught.value).endswith(".")
    assert caught.value.next_step


def test_unknown_field_is_named_with_what_was_probably_meant() -> None:
    content = network_card().to_json()
    content["spatial"]["tile_maximum"] = content["spatial"].pop("tile_max")
    with pytest.raises(ModelError, match=r"'spatial\.tile_maximum' is not known.*'spatial\.tile_max'"):
        Card.from_json(content)


@pytest.mark.parametrize("name", ["id", "licence", "intended_use", "spatial"])
def test_missing_field_is_named(name: str) -> None:
    content = network_card().to_json()
    del content[name]
    with pytest.raises(ModelError, match=f"'{name}' is missing"):
        Card.from_json(content)


@pytest.mark.parametrize("version", [2, 0, "1", 1.5, True, None])
def test_another_format_version_is_told_before_its_new_fields(version: Any) -> None:
    content = {**network_card().to_json(), "format_version": version, "news": 1}
    with pytest.raises(ModelError, match="'format_version'"):
        Card.from_json(content)


def test_rules_between_fields_of_2d_models() -> None:
    plane = SpatialSpec(2, (1, 64, 64), (1, 256, 256), axis="all", fuse="mean", neighbours=2, multiple=16)
    assert network_card(spatial=plane).spatial.tile_max == (1, 256, 256)
    with pytest.raises(ModelError, match=r"spatial\.axis"):
        SpatialSpec(2, (1, 64, 64), (1, 64, 64))
    with pytest.raises(ModelError, match=r"spatial\.tile_min"):
        SpatialSpec(2, (64, 64, 64), (64, 64, 64), axis="axial")


def test_a_classical_method_has_neither_normalisers_nor_vector_nor_weights() -> None:
    with pytest.raises(ModelError, match="normalisers"):
        classical_card(normalisers={"source": {"kind": "rgb"}, "target": {"kind": "rgb"}})
    with pytest.raises(ModelError, match="vector"):
        classical_card(vector=network_card().vector)
    with pytest.raises(ModelError, match="weights"):
        classical_card(files={"weights.safetensors": FileSpec(DIGEST, 1)})


def test_python_side_values_are_checked_as_well() -> None:
    with pytest.raises(ModelError, match=r"target\.background"):
        TargetSpec("CT", "HU", float("nan"), (-1024, 2000))
    with pytest.raises(ModelError, match=r"metrics"):
        network_card(metrics={"protocol": "x", "MAE": float("nan")})
    with pytest.raises(ModelError, match=r"training"):
        network_card(training={"array": object()})


HOSTILE_TEXTS = {
    "duplicate key": '{"a": 1, "a": 2}',
    "NaN": '{"a": NaN}',
    "infinity": '{"a": -Infinity}',
    "overflow": '{"a": 1e999}',
    "digits": '{"a": ' + "9" * 5000 + "}",
    "beyond 64 bits": '{"a": 99999999999999999999}',
    "deep": "[" * 100_000,
    "deep but closed": "[" * 20 + "]" * 20,
    "cut off": '{"a": ',
    "not UTF-8": b'{"a": "\xff"}',
    "byte order mark": b'\xef\xbb\xbf{"a": 1}',
    "half a surrogate": '{"a": "\\ud800"}',
    "control characters": '{"a": "\\u001b[2J"}',
    "control characters of one byte": '{"a": "\\u009b2J"}',
    "control characters in a key": '{"a\\u001b[2J": 1}',
    "many": "[" + ",".join("1" for _ in range(30_000)) + "]",
    "empty": "",
}


@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=list(HOSTILE_TEXTS))
def test_text_that_is_not_strict_json_is_refused(text: str | bytes) -> None:
    with pytest.raises(JsonError):
        parse_json(text)
    with pytest.raises(ModelError):
        Card.loads(text)


def test_nothing_but_model_errors_comes_out_of_damaged_cards() -> None:
    """Every field in turn gets values of every JSON type: refused, or a card that round-trips."""
    dice = random.Random(0)
    values = [None, True, 0, -1, 10**12, 0.5, "", "x" * 300, [], [1], [None] * 3, {}, {"a": {"b": [1]}}]
    whole = network_card().to_json()
    places = [(name,) for name in whole]
    places += [(name, inner) for name, part in whole.items() if isinstance(part, dict) for inner in part]
    refused = 0
    for place in places:
        for value in dice.sample(values, 8):
            content = put(whole, "/".join(place), value)
            try:
                card = Card.from_json(content)
            except ModelError:
                refused += 1
            else:
                assert Card.loads(card.dumps()) == card
    assert refused > len(places) * 4


def test_text_of_the_card_shows_everything_that_was_measured() -> None:
    card = network_card(citation="Somebody 2026.", description="One | two")
    text = readme_of(card, pictures=["three_heads.png"], weights=3 * 2**20)
    assert RESEARCH_NOTICE in text
    assert "| bone | 1.5 | 2 |" in text
    assert "| air | 0.25 |  |" in text
    assert "![three heads](three_heads.png)" in text
    assert "MR (T1, T2) -> CT" in text
    assert "3.0 MiB" in text
    assert readme_of(Card.loads(card.dumps()), pictures=["three_heads.png"], weights=3 * 2**20) == text
    assert "| Weights | 3.0 MiB, stored in float32 |" in text
    assert "| Weights" not in readme_of(card)
    clinical = dataclasses.replace(card, research_only=False)
    assert RESEARCH_NOTICE not in readme_of(clinical)


def test_every_field_of_the_schema_is_described_in_the_format_document() -> None:
    """The document that authors of models read names each field that the code knows."""
    text = (Path(__file__).parents[3] / "Docs" / "model_format.md").read_text(encoding="utf-8")
    for name, part in network_card(files={"README.md": FileSpec(DIGEST, 1)}).to_json().items():
        assert f"`{name}`" in text, name
        if name in ("source", "target", "method", "spatial", "vector"):
            for inner in part:
                assert f"`{inner}`" in text or f"`{name}.{inner}`" in text, f"{name}.{inner}"


def test_dumps_is_plain_sorted_by_the_schema() -> None:
    content = json.loads(network_card().dumps())
    assert next(iter(content)) == "format_version"
    assert list(content)[1:4] == ["id", "version", "title"]
