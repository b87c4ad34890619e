from __future__ import annotations

import pytest

from apportion.core.claim import Claim, Kind, Tier, total_by_place, total_by_tier
from apportion.core.units import GiB


def test_tiers_are_the_words_that_users_type() -> None:
    assert [str(tier) for tier in Tier] == ["gpu", "ram", "disk"]


def test_a_claim_reads_as_a_sentence() -> None:
    assert str(Claim(Kind.KV, 3 * GiB, Tier.GPU)) == "3 GiB of gpu for kv"


def test_a_claim_is_never_negative() -> None:
    with pytest.raises(AssertionError):
        Claim(Kind.KV, -1)


def test_claims_add_up_by_tier_and_kind_and_empty_ones_vanish() -> None:
    claims = (
        Claim(Kind.KV, 3),
        Claim(Kind.KV, 4),
        Claim(Kind.KV, 5, Tier.GPU),
        Claim(Kind.WORKSPACE, 1),
        Claim(Kind.RESERVE, 0, Tier.DISK),
    )
    assert total_by_place(claims) == {
        (Tier.RAM, Kind.KV): 7,
        (Tier.GPU, Kind.KV): 5,
        (Tier.RAM, Kind.WORKSPACE): 1,
    }
    assert total_by_tier(claims) == {Tier.RAM: 8, Tier.GPU: 5}
