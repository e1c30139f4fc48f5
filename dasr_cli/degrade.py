"""`dasr degrade`: LR images of a file or folder."""

import argparse
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dasr_arch.degradations import Degradation

_FLAGS = {
    'sigma': '--width',
    'lambda_1': '--axes',
    'lambda_2': '--axes',
    'theta_deg': '--theta',
    'noise': '--noise',
    'jpeg': '--jpeg',
    'kernel_size': '--kernel-size',
}
_LEVELS = {'clean': (0, 0, 0), 'weak': (1, 0, 0), 'standard': (0, 1, 0), 'severe': (0, 0, 1), 'mixed': None}
"""Shares of the strengths that ``--photographic`` asks for; None for the degradation's own."""

_SHOWN = 20


def add_parser(subparsers: 'argparse._SubParsersAction[Any]') -> None:
    """Declares the subcommand."""
    parser = subparsers.add_parser(
        'degrade',
        help='make low-resolution images of a file or folder',
        description='Blur, shrink and disturb images as the paper does. A JSON file beside the result holds all that '
        'is needed to make the same images again.',
    )
    parser.add_argument('source', metavar='IN', help='image, or folder of images')
    parser.add_argument('target', metavar='OUT', help='image or folder to make')
    parser.add_argument('--scale', type=int, default=None, help='down-sampling factor (4)')
    blur = parser.add_mutually_exclusive_group(required=True)
    blur.add_argument('--width', type=float, help='isotropic blur of this width in HR pixels; 0 is plain bicubic')
    blur.add_argument(
        '--axes', type=float, nargs=2, metavar=('L1', 'L2'), help='anisotropic blur of these widths in HR pixels'
    )
    blur.add_argument(
        '--photographic',
        choices=tuple(_LEVELS),
        help='blur, resizing, noise and JPEG or WebP as photographs have them, drawn for each image: one strength, or '
        'mixed as in training',
    )
    blur.add_argument('--like', metavar='FILE', help='as the JSON beside earlier LR images says, its seed included')
    parser.add_argument('--theta', type=float, help='angle of the first axis in degrees, with --axes (0)')
    parser.add_argument('--noise', type=float, help='standard deviation of the noise, grey levels of 0..255 (0)')
    parser.add_argument('--jpeg', type=int, metavar='QUALITY', help='JPEG compression after the noise, 1 to 100 (none)')
    parser.add_argument('--downsample', choices=('bicubic', 's_fold'), help='way of shrinking (bicubic)')
    parser.add_argument(
        '--border', choices=('replicate', 'mirror'), help="beyond the border: as the authors, or MATLAB's (replicate)"
    )
    parser.add_argument('--kernel-size', type=int, help='side of the blur kernel in HR pixels, odd (21)')
    parser.add_argument('--seed', type=int, help='seed of the noise (0)')
    parser.add_argument('--force', action='store_true', help='replace files that exist')
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Degrades, then tells what was made and what was left out.

    Args:
        args: what the parser gave.

    Returns:
        0, or 2 if an image could not be used.
    """
    from dasr_arch.data.degrade_files import DegradeSettings, degrade_files

    degradation, seed = _read_degradation(args)
    report = degrade_files(args.source, args.target, degradation, DegradeSettings(seed, args.force))
    print(f'{len(report.images)} LR images, x{degradation.scale}, {degradation.label}; see {report.record}')
    for image in report.failed[:_SHOWN]:
        print(f'dasr: error: {image.path}: {image.reason}', file=sys.stderr)
    if len(report.failed) > _SHOWN:
        print(f'dasr: error: and {len(report.failed) - _SHOWN} more images', file=sys.stderr)
    return 2 if report.failed else 0


def _read_degradation(args: argparse.Namespace) -> 'tuple[Degradation, int]':
    """The degradation and the seed that the arguments ask for; InputError if they are wrong."""
    from dasr_arch._errors import InputError
    from dasr_arch.data.degrade_files import read_degradation_record
    from dasr_arch.degradations import build_degradation

    given = {
        name: getattr(args, name)
        for name in ('noise', 'jpeg', 'downsample', 'border', 'kernel_size')
        if getattr(args, name) is not None
    }
    if args.like is not None:
        other = ('scale', 'theta', 'seed')
        extra = next((name for name in (*given, *other) if getattr(args, name) is not None), None)
        if extra is not None:
            raise InputError(
                f"--{extra.replace('_', '-')} contradicts --like, which takes everything from '{args.like}'"
            )
        record = read_degradation_record(args.like)
        return record.degradation, record.seed
    if args.axes is None and args.theta is not None:
        raise InputError('--theta turns the axes of an anisotropic blur; give --axes L1 L2 instead of --width')
    if args.axes is not None:
        blur: dict[str, object] = {'type': 'AnisotropicGaussian', 'lambda_1': args.axes[0], 'lambda_2': args.axes[1]}
        blur['theta_deg'] = 0.0 if args.theta is None else args.theta
    elif args.photographic is not None:
        shares = _LEVELS[args.photographic]
        blur = {'type': 'Photographic', **({} if shares is None else {'level_probabilities': list(shares)})}
    else:
        blur = {'type': 'IsotropicGaussian', 'sigma': args.width}
    try:
        degradation = build_degradation({**blur, **given}, 4 if args.scale is None else args.scale)
    except InputError as error:
        flag = _FLAGS.get(str(error).split()[0])
        raise InputError(f'{flag}: {error}' if flag else f'--{error}') from error
    return degradation, args.seed or 0
