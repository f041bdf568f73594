"""Generated RGB-thermal scenes: the builder of TFDS and its config.

TFDS is imported only when one of these is asked for: the processes that render need none of it and start the faster.
"""


def __getattr__(name: str):
    if name in ("SyntheticConfig", "SyntheticRgbt", "open_builder"):
        from datasets.synthetic_rgbt import synthetic_rgbt

        return getattr(synthetic_rgbt, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
