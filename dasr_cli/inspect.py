"""`dasr inspect`: names the known degradations that images look most like."""

import argparse
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dasr_arch.probe.model import Guess, Quantity


def add_parser(subparsers: 'argparse._SubParsersAction[Any]') -> None:
    """Declares the subcommand."""
    parser = subparsers.add_parser(
        'inspect',
        help='name the blur and noise that images look most like',
        description='Name the known degradations that the representation of each image is most similar to, with the '
        'confidence of a linear probe. Widths and axes are standard deviations in pixels of the large image, angles '
        'in degrees, clockwise; noise is a standard deviation in grey levels of 0..255.',
    )
    parser.add_argument('images', nargs='+', metavar='IMAGE', help='image files')
    parser.add_argument('--model', default='general', help='general, iso, a name that `dasr models` lists, or a file')
    parser.add_argument('--scale', type=int, help='factor (4, or that of the named weights or file)')
    parser.add_argument('--probe', metavar='FILE', help='what `dasr probe` wrote (the one beside the weights)')
    parser.add_argument('--top', type=int, default=3, metavar='N', help='so many for blur and noise each (3)')
    parser.add_argument('--json', action='store_true', help='print one JSON list instead of text')
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Looks at each image and prints what it looks like.

    Args:
        args: what the parser gave.

    Returns:
        0, or 2 if an image could not be read.
    """
    import json

    from dasr_arch._errors import InputError
    from dasr_arch.data.image_io import read_bytes
    from dasr_arch.inference.images.io import read_image_file
    from dasr_arch.inference.upscaler import Upscaler, find_scale, locate_weights
    from dasr_arch.probe.model import probe_path, read_probe

    if args.top < 1:
        raise InputError(f'--top must be at least 1, got {args.top}')
    scale = find_scale(args.model, args.scale)
    weights = locate_weights(args.model, scale)
    upscaler = Upscaler(scale, weights)
    probe = read_probe(args.probe or probe_path(weights), upscaler.network)
    found: list[dict[str, object]] = []
    failed = False
    for path in args.images:
        try:
            frames = read_image_file(read_bytes(path), path).frames
            guesses = probe.read(upscaler.represent([frames[0]]))
        except InputError as error:
            print(f'dasr: error: {error}', file=sys.stderr)
            failed = True
            continue
        found.append(
            {'picture': path, **{what: [one._asdict() for one in best[: args.top]] for what, best in guesses.items()}}
        )
        if not args.json:
            _print_guesses(path, guesses, args.top)
    if args.json:
        print(json.dumps(found, indent=2))
    return 2 if failed else 0


def _print_guesses(path: str, guesses: 'dict[Quantity, list[Guess]]', top: int) -> None:
    print(path)
    for quantity, ranked in guesses.items():
        shown = ', '.join(f'{guess.label} ({100 * guess.confidence:.0f} %)' for guess in ranked[:top])
        print(f'  {"blur" if quantity == "kernel" else quantity}: {shown}')
