"""What a server has measured of itself: cheap to feed, step by step and request by request, and bounded."""

from apportion.serve.meters.finished import Took, percentile
from apportion.serve.meters.meter import Meter, Meters
from apportion.serve.meters.minute import SPAN_S, Minute, Sums

__all__ = ["SPAN_S", "Meter", "Meters", "Minute", "Sums", "Took", "percentile"]
