"""Scores into reports: scoring runs, statistics, comparison of experiments, pages and tables."""
