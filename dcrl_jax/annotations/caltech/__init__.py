"""Caltech Pedestrians: frames and splits, videos (.seq), original (.vbb) and new (text) annotations."""
