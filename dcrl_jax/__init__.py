"""Illumination-invariant pedestrian detection in JAX and Flax: DCRL-PDN, the teacher, and DCRD-PDN, the student.

detector = dcrl_jax.Detector.from_pretrained("hf://OWNER/NAME")
people = detector("street.jpg")           # a student
people = detector("rgb.jpg", "lwir.jpg")  # a teacher
people = detector(lwir="lwir.jpg")        # a teacher that was trained with data.blank_probability
"""

from typing import TYPE_CHECKING, Any

from dcrl_jax.errors import InputError

if TYPE_CHECKING:
    from dcrl_jax.inference.detector import Detector

__all__ = ["Detector", "InputError", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Import at the first use: importing JAX takes seconds, and the scorers do not need it.
    if name == "Detector":
        from dcrl_jax.inference.detector import Detector

        return Detector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
