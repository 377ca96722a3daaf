"""Parametrizes the tests of a `network_battery.Battery` over the cases of its class."""

from __future__ import annotations

import pytest


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    cases = getattr(metafunc.cls, "CASES", None)
    if cases is not None and "case" in metafunc.fixturenames:
        without = metafunc.cls.WITHOUT.get(metafunc.function.__name__, frozenset())
        chosen = {name: case for name, case in cases.items() if name not in without}
        assert without <= set(cases), "a case that is left out does not exist"
        metafunc.parametrize("case", chosen.values(), ids=chosen)
