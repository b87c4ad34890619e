from __future__ import annotations

from dataclasses import replace

import pytest
from tests.plan.conftest import unit_of

from apportion.formats.blocks.table import FORMATS
from apportion.plan.efficiency import MATMAT, MATVEC, NOT_HIDDEN, OTHERS, Products
from apportion.plan.machine import DiskRates, Machine, Product, Way

MACHINE = Machine(1e9, 100e9, 10e9, DiskRates((Way(1, 1, 1e9),)), "")


def test_every_format_that_kernels_compute_on_has_its_share() -> None:
    native = {found.name for found in FORMATS.values() if found.native}
    assert set(MATVEC) == set(MATMAT) == native


def test_one_token_streams_and_many_multiply() -> None:
    products = Products.of(unit_of(34_000_000), 34_000_000, 32_000_000)
    reading, multiplying = 0.034 / MATVEC["q8_0"], 64e6 / (100e9 * MATMAT["q8_0"])
    assert products.seconds(MACHINE) == pytest.approx(reading)
    assert products.seconds(MACHINE, 8) == pytest.approx(reading)
    assert products.seconds(MACHINE, 1000) == pytest.approx(1000 * multiplying + NOT_HIDDEN * reading)


def test_more_than_a_few_tokens_pay_for_a_tile() -> None:
    products = Products.of(unit_of(34_000_000), 34_000_000, 32_000_000)
    nine, sixteen, seventeen = (products.seconds(MACHINE, tokens) for tokens in (9, 16, 17))
    assert products.seconds(MACHINE, 8) < nine == sixteen < seventeen


def test_what_was_measured_stands_in_for_shares() -> None:
    machine = replace(MACHINE, products={"q8_0": Product(2e9, 30e9)})
    products = Products.of(unit_of(34_000_000), 34_000_000, 32_000_000)
    assert products.seconds(machine) == pytest.approx(0.017)
    assert products.seconds(machine, 1000) == pytest.approx(64 / 30 + NOT_HIDDEN * 0.017)
    assert Products.of(None, 4_000_000, 1_000_000).seconds(machine) == pytest.approx(0.004 / MATVEC["f32"])


def test_floats_are_held_against_the_peak_of_floats() -> None:
    products = Products.of(None, 4_000_000, 1_000_000)
    reading = 0.004 / MATVEC["f32"]
    multiplying = 2e9 / (10e9 * MATMAT["f32"])
    assert products.seconds(MACHINE, 1000) == pytest.approx(multiplying + NOT_HIDDEN * reading)


def test_matrices_of_an_unknown_format_count_as_middling() -> None:
    assert Products.of(None, 1_000_000, 2_000_000).seconds(MACHINE) == pytest.approx(1e-3 / OTHERS)
