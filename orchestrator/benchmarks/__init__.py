"""Benchmarks over many nights: what their figures say. Rows in, answers out."""
