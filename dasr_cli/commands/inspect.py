"""`dasr inspect`: estimates blur, noise and JPEG quality of images with a linear probe on the representation."""

import argparse
from typing import Any

from dasr_cli.arguments import add_json, add_model
from dasr_cli.messages import print_error

_NAMES = {'kernel': 'blur', 'jpeg': 'JPEG'}
_PROBES = 'iso at x2, x3, x4, general at x4, photo at x2, x3, x4'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.description = (
        'Classify the degradation of each image with a linear probe on its representation. Kernel widths '
        'are standard deviations in HR pixels, angles are in degrees, clockwise; noise levels are standard deviations '
        'on the scale 0..255; JPEG qualities are those of libjpeg, 1 to 100. That of a JPEG file is read from its '
        'quantisation table.'
    )
    parser.add_argument('images', nargs='+', metavar='IMAGE', help='image files, or - for stdin')
    add_model(parser, default='general')
    parser.add_argument(
        '--probe',
        metavar='FILE',
        help=f'result of `dasr probe` (the file next to the weights; installed for {_PROBES})',
    )
    parser.add_argument('--top', type=int, default=3, metavar='N', help='number of candidates to list (3)')
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Prints the most probable degradations of each image; returns 2 if an image could not be read."""
    import json
    import sys

    from dasr_arch._errors import InputError
    from dasr_arch.data.image_io import read_bytes
    from dasr_arch.inference.images.io import read_image_file
    from dasr_arch.inference.load_model import find_scale, locate_weights
    from dasr_arch.inference.upscaler import Upscaler
    from dasr_arch.probe.auto_model import estimate_quality
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
            file = read_image_file(sys.stdin.buffer.read() if path == '-' else read_bytes(path), path)
            guesses = probe.read(upscaler.represent([file.frames[0]]))
        except InputError as error:
            print_error(error)
            failed = True
            continue
        quality = estimate_quality(file.quantisation) if file.quantisation else None
        best: dict[str, Any] = {quantity: ranked[: args.top] for quantity, ranked in guesses.items()}
        if args.json:
            listed = {quantity: [guess._asdict() for guess in ranked] for quantity, ranked in best.items()}
            own = {'image': path, 'picture': path, 'file_jpeg_quality': quality}  # 'picture': the old name
            found.append(own | listed)
            continue
        print(path if quality is None else f'{path}: JPEG of quality {quality}')
        for quantity, ranked in best.items():
            shown = ', '.join(f'{guess.label} ({100 * guess.confidence:.0f} %)' for guess in ranked)
            print(f'  {_NAMES.get(quantity, quantity)}: {shown}')
    if args.json:
        print(json.dumps(found, indent=2))
    return 2 if failed else 0
