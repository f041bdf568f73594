"""Geometry, anchors, matching, sampling, NMS, RoIAlign and convolutions, all with fixed shapes."""
