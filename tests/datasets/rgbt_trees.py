"""Small folders in the real structure of public sets of RGB-thermal pairs."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

VOC = """<{root}>
\t<folder>{folder}</folder>
\t<filename>{filename}</filename>
\t<size>
\t\t<width>{width}</width>
\t\t<height>{height}</height>
\t\t<depth>{depth}</depth>
\t</size>
{objects}
</{root}>
"""
OBJECT = """\t<object>
\t\t<name>{}</name>
\t\t<bndbox>
\t\t\t<xmin>{}</xmin>
\t\t\t<ymin>{}</ymin>
\t\t\t<xmax>{}</xmax>
\t\t\t<ymax>{}</ymax>
\t\t</bndbox>
\t</object>"""


def image_bytes(seed: int, width: int, height: int, channels: int, kind: str) -> bytes:
    """Return an encoded image of noise; ``kind`` is PNG, JPEG or TIFF. Three channels of a grey camera are equal."""
    rng = np.random.default_rng(seed)
    shape = (height, width) if channels == 1 else (height, width, channels)
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def grey_bytes(seed: int, width: int, height: int, kind: str) -> bytes:
    """Return an encoded image of three equal channels."""
    grey = np.random.default_rng(seed).integers(0, 256, (height, width, 1), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(np.repeat(grey, 3, 2)).save(buffer, kind)
    return buffer.getvalue()


def write(path: Path, content: bytes | str) -> None:
    """Write a file and its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def voc(objects, *, root="annotation", folder="images", filename="x.jpg", size=(64, 48), depth=3) -> str:
    """Return an XML file; ``objects`` are rows of name, xmin, ymin, xmax, ymax."""
    rows = "\n".join(OBJECT.format(*row) for row in objects)
    return VOC.format(
        root=root, folder=folder, filename=filename, width=size[0], height=size[1], depth=depth, objects=rows
    )


def write_llvip(root: Path) -> Path:
    """Write six training and three test pairs of LLVIP: two folders of splits, one XML for both images."""
    for split, names in (
        ("train", ("010001", "010002", "020001", "020002", "030001", "030002")),
        ("test", ("190001", "190002", "200001")),
    ):
        for name in names:
            seed = int(name)
            write(root / f"visible/{split}/{name}.jpg", image_bytes(seed, 80, 64, 3, "JPEG"))
            write(root / f"infrared/{split}/{name}.jpg", grey_bytes(seed + 1, 80, 64, "JPEG"))
            objects = (
                [("person", 10, 12, 20, 44), ("person", 70, 30, 80, 64)] if seed % 2 else [("person", 1, 1, 9, 33)]
            )
            write(root / f"Annotations/{name}.xml", voc(objects, filename=f"{name}.jpg", size=(80, 64)))
    return root


def write_flir_aligned(root: Path) -> Path:
    """Write four training and two validation pairs of FLIR-aligned, with the files that lie beside them there."""
    train, validation = ("FLIR_00002", "FLIR_00005", "FLIR_00006", "FLIR_00008"), ("FLIR_08863", "FLIR_08864")
    for name in (*train, *validation):
        seed = int(name[-5:])
        visible, lwir = image_bytes(seed, 80, 64, 3, "JPEG"), image_bytes(seed + 1, 80, 64, 1, "JPEG")
        for folder in ("JPEGImages", "AnnotatedImages"):
            write(root / f"align/{folder}/{name}_RGB.jpg", visible)
            write(root / f"align/{folder}/{name}_PreviewData.jpeg", lwir)
        objects = [("person", 10, 12, 20, 44), ("car", 0, 40, 30, 60), ("bicycle", 50, 40, 60, 60), ("dog", 1, 2, 5, 6)]
        xml = voc(
            objects, root="Annotation", folder="training_data", filename="FLIR_00001.jpeg", size=(80, 64), depth=1
        )
        write(root / f"align/Annotations/{name}_PreviewData.xml", xml)
        write(root / f"align/Annotations/{name}_mask.jpg", lwir)
    write(root / "align/align_train.txt", "".join(f"{name}_PreviewData\n" for name in train))
    write(root / "align/align_validation.txt", "".join(f"{name}_PreviewData\n" for name in validation))
    return root


def write_cvc14(root: Path) -> Path:
    """Write pairs of CVC-14: by day and night, own boxes of each camera, grey TIFF files of both."""
    rows = {"Visible": "20 30 10 24 1 0 0 0 0 7 0\n", "FIR": "23 30 10 24 1 0 0 0 0 7 0\n40  20 8 20 1 0 0 0 0 8 0\n"}
    sequences = (
        ("Day", "2014_05_05_17_29_23", "Train", 3),
        ("Day", "2014_05_01_23_14_33", "NewTest", 2),
        ("Night", "2014_05_01_23_14_33", "Train", 3),
        ("Night", "2014_05_04_23_14_09", "NewTest", 2),
    )
    for number, (day, time, split, count) in enumerate(sequences):
        for index in range(count):
            name = f"{time}_{323000 + index}"
            for camera, text in rows.items():
                folder = root / day / camera / split
                write(folder / f"FramesPos/{name}.tif", image_bytes(10 * number + index, 80, 59, 1, "TIFF"))
                write(folder / f"Annotations/{name}.txt", text if index else "")
    return root


def write_m3fd(root: Path, count: int = 8) -> Path:
    """Write pairs of M3FD: the thermal images have three channels, and not all pairs have one size."""
    for index in range(count):
        size = (96, 72) if index != 3 else (88, 52)
        name = f"{index:05d}"
        write(root / f"M3FD_Detection/Vis/{name}.png", image_bytes(index, *size, 3, "PNG"))
        write(root / f"M3FD_Detection/Ir/{name}.png", grey_bytes(index, *size, "PNG"))
        objects = [("People", 1, 1, 11, 31), ("Car", 40, 20, 80, 50), ("Lamp", 5, 5, 8, 9)]
        xml = voc(objects, folder="Vis", filename=f"{index + 900:05d}.png", size=size)
        write(root / f"M3FD_Detection/Annotation/{name}.xml", xml)
    return root
