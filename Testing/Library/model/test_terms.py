"""The record of accepted terms: once for each model and wording, asked again when the wording changes."""

import dataclasses

import pytest
from model_folders import network_card

from SynthGANLib.errors import InputError
from SynthGANLib.model.consent import accept, accepted_on


def test_terms_are_accepted_once(tmp_path):
    card = network_card()
    assert accepted_on(card, tmp_path / "models") == ""
    date = accept(card, tmp_path / "models")
    assert date.endswith("+00:00")
    assert accepted_on(card, tmp_path / "models") == date
    assert accepted_on(dataclasses.replace(card, version="9.9.9"), tmp_path / "models") == date


def test_new_terms_and_other_models_are_asked_for_again(tmp_path):
    card = network_card()
    accept(card, tmp_path / "models")
    assert accepted_on(dataclasses.replace(card, licence="Pay first."), tmp_path / "models") == ""
    assert accepted_on(dataclasses.replace(card, id="another-model"), tmp_path / "models") == ""
    other = dataclasses.replace(card, id="another-model")
    accept(other, tmp_path / "models")
    assert accepted_on(card, tmp_path / "models")
    assert accepted_on(other, tmp_path / "models")


@pytest.mark.parametrize("damage", [b"", b"[]", b"{", b'{"a": 1}', b"\xff\xfe"])
def test_a_damaged_record_accepts_nothing(tmp_path, damage):
    (tmp_path / "accepted_terms.json").write_bytes(damage)
    card = network_card()
    assert accepted_on(card, tmp_path / "models") == ""
    accept(card, tmp_path / "models")
    assert accepted_on(card, tmp_path / "models")


def test_a_record_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be recorded"):
        accept(network_card(), tmp_path / "file" / "models")
