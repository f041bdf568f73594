"""KAIST: its frames and splits, its annotation formats and folders, and which annotation set is which."""
