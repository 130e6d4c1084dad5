"""Scores into tables: scoring runs, statistics, results of experiments, pages of them."""
