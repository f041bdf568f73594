"""Generated RGB-thermal scenes: their TFDS builder and config.

TFDS is imported only when one of these names is used: the processes that render start faster without it.
"""


def __getattr__(name: str):
    if name in ("SyntheticConfig", "SyntheticRgbt", "open_builder"):
        from datasets.synthetic_rgbt import synthetic_rgbt

        return getattr(synthetic_rgbt, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
