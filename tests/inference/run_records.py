"""What the workdir of a run records about its parameters."""

START = {
    "seed": 0,
    "commit": None,
    "python": "3.11.7",
    "processes": 2,
    "devices": ["H200"] * 4,
    "versions": {"jax": "0.7.2", "flax": "0.11.2"},
    "command": ["main.py", "--workdir=/home/me/run"],
    "machine": "me",
}


def subset(miss_rate, people):
    rates = {"miss_rate_percent": miss_rate, "recall_percent": 90.125}
    return rates | {"people": people, "images": 10 * people}


COCO = {"ap_percent": 31.5, "ap50_percent": 71.0, "ap75_percent": None, "ar_percent": 40.0, "people": 9, "images": 80}


def scores(**changes):
    """The content of evaluation/scores.json."""
    values = {"all": subset(12.344, 5), "day": subset(None, 0), "night": subset(7.0, 3)}
    return {
        "scores": {f"reasonable-{name}": value for name, value in values.items()},
        "coco": {"all": COCO, "night": COCO},
        "further": {},
        "blanked": {},
        "modality_weights": {},
        "warnings": [],
        "data": {"name": "kaist", "split": "test", "options": {"annotations": "improved", "test_list": None}},
        "people_who_count": "at least 55 pixels tall, at most partly occluded",
    } | changes
