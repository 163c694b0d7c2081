"""Scoring corpora: tables, uncertainty, findings, leaderboard, gate."""
