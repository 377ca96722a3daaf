"""Measures of a synthetic image against a reference."""
