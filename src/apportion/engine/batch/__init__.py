"""Offline batches: a file of requests in, a file of answers out, none lost and none given twice."""

from apportion.engine.batch.run import BatchReport, Progress, has_forms, run_batch

__all__ = ["BatchReport", "Progress", "has_forms", "run_batch"]
