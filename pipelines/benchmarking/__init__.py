"""Measuring evaluators on variants with known damage, see :mod:`pipelines.benchmark`."""
