"""The measurement of a machine: memory, arithmetic and the disk that models lie on, in some seconds."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from apportion.bench.disk import measure_disk
from apportion.bench.limits import Bandwidth, PeakKind, arithmetic_peak
from apportion.bench.product_rates import product_rates
from apportion.bench.provenance import processor_name
from apportion.core.claim import Tier
from apportion.core.units import MiB
from apportion.hardware.memory import memory_limits
from apportion.hardware.profile import Profile
from apportion.kernels import available_isas
from apportion.memory import Ledger

BUFFERS_NBYTES = 64 * MiB
PEAKS: tuple[PeakKind, ...] = ("int8", "bf16", "f32")

OnStage = Callable[[str], None]


def probe(file: Path | None, threads: int, on_stage: OnStage = lambda stage: None) -> Profile:
    """Measure this machine.

    Args:
        file: is read to measure the disk that it lies on; None leaves the disk out.
        threads: that compute.
        on_stage: told what is measured next.

    Raises:
        BadFile, DiskFault: the file cannot be used for it.
    """
    on_stage("memory")
    bandwidth = Bandwidth(threads)
    memory_rates = {count: bandwidth.measure(count) for count in sorted({1, threads})}
    del bandwidth
    on_stage("arithmetic")
    peaks = {str(kind): arithmetic_peak(kind, threads) for kind in PEAKS}
    on_stage("products")
    products = product_rates(threads)
    on_stage("disk")
    ledger = Ledger({Tier.RAM: BUFFERS_NBYTES})
    return Profile(
        processor=processor_name(),
        isas=tuple(available_isas()),
        threads=threads,
        memory=memory_limits(),
        memory_GBps=memory_rates,
        peak_GOps=peaks,
        products=products,
        disk=None if file is None else measure_disk(file, ledger, threads),
        date=datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ"),
    )
