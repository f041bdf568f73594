"""Generated RGB-thermal scenes.

``SyntheticRgbt(config=SyntheticConfig(...), file_format="array_record")`` builds them. TFDS is imported only when one
of these two is asked for: the processes that render need none of it and start the faster.
"""


def __getattr__(name: str):
    if name in ("SyntheticConfig", "SyntheticRgbt"):
        from datasets.synthetic_rgbt import synthetic_rgbt

        return getattr(synthetic_rgbt, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
