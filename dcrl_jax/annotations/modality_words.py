"""The words by which names of folders and files tell the modality."""

from typing import NamedTuple


class Words(NamedTuple):
    """The words of a modality, in any case."""

    certain: tuple[str, ...]  # as a folder's name, or after the last underscore of a file's
    with_partner: tuple[str, ...]  # only if such a word of the other modality makes the two names equal


# Folders: visible/ and lwir/ (KAIST), infrared/ (LLVIP), vi/ and ir/ (MSRS), Vis/ and Ir/ (M3FD), Visible/ and FIR/
# (CVC-14), RGB/ and thermal_8_bit/ (FLIR), crop_LR_visible/ and cropinfrared/ (RoadScene), RGB/ and T/ (VT5000). Files:
# I00000_visible and _lwir, FLIR_00000_RGB and _PreviewData, DJI_0000_W (wide), _V, _Z (zoom) and _T.
MODALITY_WORDS = {
    "visible": Words(
        ("visible", "vis", "vi", "rgb"), ("crop_lr_visible", "color", "colour", "wide", "w", "v", "zoom", "z")
    ),
    "lwir": Words(
        ("lwir", "thermal", "infrared", "ir", "tir"),
        ("cropinfrared", "thermal_8_bit", "thermal_16_bit", "fir", "thrm", "t", "previewdata"),
    ),
}
# The modality that a certain word tells.
MODALITY_OF = {word: modality for modality, words in MODALITY_WORDS.items() for word in words.certain}
