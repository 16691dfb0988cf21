"""Benchmarks, on Linux: ratios of medians from alternating runs, never a verdict.

A module is a topic and a command.  The figures that the README shows need
larger sizes than the defaults, and a machine that does nothing else.
"""
