"""`dasr models`: lists the installed weights."""

import argparse

from dasr_cli.arguments import add_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.description = (
        'List the weights that are installed with the package, or those in the folder of the environment '
        'variable DASR_WEIGHTS.'
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Prints the list."""
    import msgspec

    from dasr_arch.checkpoints.packaged import check_packaged, read_manifest, weights_folder

    manifest = read_manifest()
    for entry in manifest.files:
        check_packaged(entry)
    if args.json:
        print(msgspec.json.format(msgspec.json.encode(manifest), indent=2).decode())
        return 0
    for entry in manifest.files:
        size = f'{entry.parameters / 1e6:.2f} million parameters, {entry.size / 1e6:.1f} MB'
        print(f'{entry.name}: x{entry.scale} {entry.setting}, {size}, {entry.date}')
        print(f'  trained on {entry.trained_on}; model card: {entry.card}')
        for name, value in entry.figures.items():
            print(f'  {name} {value:g}')
    if not manifest.files:
        print(f'no weights are installed in {weights_folder()}; --model takes a weights file')
    return 0
