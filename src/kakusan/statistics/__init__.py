"""Means and deviations of large arrays, and confidence intervals."""
