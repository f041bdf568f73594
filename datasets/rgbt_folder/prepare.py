"""Look at a folder of RGB-thermal pairs: check every file, print what was found, write the records and a picture.

    python -m datasets.rgbt_folder.prepare --manual_dir=FOLDER
    python -m datasets.rgbt_folder.prepare --manual_dir=FOLDER --labels=lwir --night='N$'

The picture, a contact sheet, shows twelve pairs with their boxes: look at it before you train. The options are those of
a run, --config.data.options.NAME. The command can be interrupted and repeated: the data set is complete or absent.
"""

from collections.abc import Sequence
from pathlib import Path

from datasets.command import command_options, prepare, prepare_parser
from datasets.rgbt_folder.contact_sheet import write_contact_sheet
from datasets.rgbt_folder.options import CHOICES, HELP, defaults
from datasets.rgbt_folder.rgbt_folder import open_builder
from dcrl_jax.registration import read_registration


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; print a user's mistake as one message and exit with status 1."""
    parser = prepare_parser(
        __doc__, "the folder: images and labels in any folders below it", "test pairs that cannot be used"
    )
    for name, default in defaults().items():
        kind = type(default) if isinstance(default, (int, float)) else str
        help_text = HELP[name] + (f" (default: {default})" if default not in (None, ()) else "")
        parser.add_argument(f"--{name}", type=kind, default=default, choices=CHOICES.get(name), help=help_text)
    parser.add_argument("--contact_sheet", type=Path, help="the picture (default: beside the prepared data)")
    with command_options(parser, arguments) as options:
        manual_dir, sheet = options.pop("manual_dir"), options.pop("contact_sheet")
        # As a run does, so that both name the prepared data alike.
        registration = read_registration(options["lwir_to_visible"], Path(manual_dir))
        options["lwir_to_visible"] = registration.describe() if registration else None
        builder = open_builder(**options)
        prepare(builder, manual_dir)
        path = sheet or Path(builder.data_path).parent / "contact_sheet.png"
        write_contact_sheet(builder, path)
        print(f"look at these pairs and their boxes: {path}")


if __name__ == "__main__":
    main()
