"""Measures, figures and tables."""
