"""Metrics for Prometheus: read when they are scraped, so that they cost nothing in between."""

from apportion.serve.metrics.page import COMPAT, OWN, Page
from apportion.serve.metrics.sight import Sight

__all__ = ["COMPAT", "OWN", "Page", "Sight"]
