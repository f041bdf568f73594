"""Scores of detections: miss rate, average precision, benchmark rules and results files."""
