"""Figures for Prometheus (``[metrics] listen``): what ``status`` shows, as numbers over time."""
