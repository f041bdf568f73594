"""Scores of detections: miss rate, COCO's average precision, benchmark rules and results files."""
