"""KAIST: frames and splits, annotation formats and folders, and the checksums of the improved annotations."""
