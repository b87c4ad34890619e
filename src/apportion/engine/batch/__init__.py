"""Offline batches: a file of requests in, a file of answers out, none lost and none given twice."""

from apportion.engine.batch.run import BatchReport, Progress, run_batch

__all__ = ["BatchReport", "Progress", "run_batch"]
