"""Benchmarks: ratios of medians from alternating runs, never a verdict."""
