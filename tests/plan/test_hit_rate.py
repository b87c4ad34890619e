from __future__ import annotations

import json
from pathlib import Path

import pytest

from apportion.core.errors import BadFile, UsageError
from apportion.plan.curves import PUBLISHED, Curve
from apportion.plan.hit_rate import expected, from_curve, read_curve, stated, uniform


def test_uniform_routing_hits_the_share_of_experts_that_have_room() -> None:
    assert uniform().rate(0, 16, 64) == 0.25
    assert uniform().rate(0, 64, 64) == 1
    assert uniform().rate(0, 0, 64) == 0


def test_a_stated_rate_holds_where_not_all_have_room() -> None:
    assert stated(0.8).rate(3, 2, 64) == 0.8
    assert stated(0.8).rate(3, 64, 64) == 1
    with pytest.raises(UsageError, match="between 0 and 1"):
        stated(80)


def test_a_curve_is_read_between_its_points_and_relative_to_its_warm_end() -> None:
    rates = from_curve(Curve((0.25, 0.5, 1.0), (0.4, 0.6, 0.8), "here"))
    assert rates.source == "here"
    assert rates.rate(0, 16, 64) == pytest.approx(0.5)
    assert rates.rate(0, 24, 64) == pytest.approx(0.5 / 0.8)
    assert rates.rate(0, 8, 64) == pytest.approx(0.25)  # half way from nothing
    assert rates.rate(0, 63, 64) < 1


def test_a_curve_that_ends_early_stays_at_its_end() -> None:
    rates = from_curve(Curve((0.5,), (0.6,), "here"))
    assert rates.rate(0, 60, 64) == pytest.approx(0.6)


def test_published_curves_are_sound_and_beat_uniform_routing() -> None:
    for family, curve in PUBLISHED.items():
        assert len(curve.fractions) == len(curve.rates)
        assert list(curve.fractions) == sorted(curve.fractions)
        assert list(curve.rates) == sorted(curve.rates)
        rates = expected(family)
        assert rates.source == curve.source
        assert all(rates.rate(0, slots, 128) > slots / 128 for slots in range(1, 128))


def test_a_family_that_nothing_is_published_for_gets_the_worst_case() -> None:
    assert "worst case" in expected("mixtral").source


def test_a_curve_is_read_from_a_file(tmp_path: Path) -> None:
    told = {"source": "a trace of mine", "fractions": [0.5, 1], "hit_rates": [0.7, 0.9]}
    (tmp_path / "curve.json").write_text(json.dumps(told))
    rates = read_curve(tmp_path / "curve.json")
    assert rates.source == "a trace of mine"
    assert rates.rate(0, 32, 64) == pytest.approx(0.7 / 0.9)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ([], "not a table"),
        ({"source": "", "fractions": [0.5]}, "hit_rates is missing"),
        ({"source": "", "fractions": [0.5], "hit_rates": [0.5], "x": 1}, "unknown key x"),
        ({"source": "", "fractions": [0.5, 0.4], "hit_rates": [0.5, 0.6]}, "fractions that ascend"),
        ({"source": "", "fractions": [0.4, 0.5], "hit_rates": [0.6, 0.5]}, "rates that never fall"),
        ({"source": "", "fractions": [0.4, 0.5], "hit_rates": [0.6]}, "as many rates"),
        ({"source": "", "fractions": [0.5, 1.5], "hit_rates": [0.5, 0.6]}, "between 0 and 1"),
        ({"source": "", "fractions": [0.5], "hit_rates": [50]}, "between 0 and 1"),
        ({"source": "", "fractions": [1], "hit_rates": [0]}, "above 0"),
        ({"source": "", "fractions": [], "hit_rates": []}, "above 0"),
    ],
)
def test_what_is_no_curve_is_refused_in_words(tmp_path: Path, told: object, words: str) -> None:
    (tmp_path / "curve.json").write_text(json.dumps(told))
    with pytest.raises(BadFile, match=words):
        read_curve(tmp_path / "curve.json")
