"""Caltech Pedestrians: its frames and splits, its videos (.seq), and its original (.vbb) and new (text) annotations."""
