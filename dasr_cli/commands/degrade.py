"""`dasr degrade`: makes LR images from an image or a folder."""

import argparse
from typing import TYPE_CHECKING

from dasr_cli.arguments import RenamedOption, add_force, add_shard
from dasr_cli.messages import EMPTY_SHARD, print_failures, print_others

if TYPE_CHECKING:
    from dasr_arch.data.input_lists import Manifest
    from dasr_arch.degradations import Degradation

_FLAGS = {'lambda_1': '--lambda', 'lambda_2': '--lambda', 'theta_deg': '--theta', 'kernel_size': '--kernel-size'}
"""Options of parameters that have another name than their option."""

_LEVELS = {'clean': (0, 0, 0), 'weak': (1, 0, 0), 'standard': (0, 1, 0), 'severe': (0, 0, 1), 'mixed': None}
"""Probabilities of the three levels by argument of ``--photographic``; None for the degradation's defaults."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.description = (
        'Blur, downsample, add noise and compress, as in the paper. A JSON file next to the result records '
        'the degradation and the seed.'
    )
    source = parser.add_argument('source', metavar='IN', help='image or folder of images; none with --manifest')
    target = parser.add_argument('target', metavar='OUT', help='output file or folder')
    source.required = target.required = False  # with --manifest, OUT is the first
    parser.add_argument('--scale', type=int, default=None, help='downsampling factor (4)')
    blur = parser.add_mutually_exclusive_group(required=True)
    blur.add_argument(
        '--sigma', type=float, help='isotropic Gaussian blur: kernel width in HR pixels; 0: bicubic downsampling alone'
    )
    blur.add_argument(
        '--lambda',
        dest='lambdas',
        type=float,
        nargs=2,
        metavar=('L1', 'L2'),
        help='anisotropic Gaussian blur: kernel widths along both axes in HR pixels',
    )
    blur.add_argument(
        '--photographic',
        choices=tuple(_LEVELS),
        help='blur, resizing, noise and JPEG or WebP as in photographs, drawn for each image: one level, or mixed as '
        'in training',
    )
    blur.add_argument('--record', metavar='FILE', help='degradation and seed from the JSON file of an earlier run')
    blur.add_argument('--width', dest='sigma', type=float, action=RenamedOption, new='--sigma')
    blur.add_argument('--axes', dest='lambdas', type=float, nargs=2, action=RenamedOption, new='--lambda')
    blur.add_argument('--like', dest='record', action=RenamedOption, new='--record')
    parser.add_argument('--theta', type=float, help='rotation of the kernel in degrees, with --lambda (0)')
    parser.add_argument('--noise', type=float, help='noise level: standard deviation on the scale 0..255 (0)')
    parser.add_argument('--jpeg', type=int, metavar='QUALITY', help='JPEG compression after the noise, 1 to 100 (none)')
    parser.add_argument('--downsample', choices=('bicubic', 's_fold'), help='downsampling (bicubic)')
    parser.add_argument(
        '--border',
        choices=('replicate', 'mirror'),
        help='padding: replicate as the authors, mirror as MATLAB (replicate)',
    )
    parser.add_argument('--kernel-size', type=int, help='side of the blur kernel in HR pixels, odd (21)')
    parser.add_argument('--seed', type=int, help='seed of the noise (0)')
    add_force(parser)
    add_shard(parser)


def run(args: argparse.Namespace) -> int:
    """Degrades and prints a summary; returns 2 if an image could not be used."""
    from dasr_arch.data.degrade_files import DegradeSettings, degrade_files
    from dasr_arch.data.image_io import list_others
    from dasr_arch.data.input_lists import Shard

    shard = Shard.parse(args.shard)
    degradation, seed = _read_degradation(args)
    source, target = _read_paths(args)
    report = degrade_files(source, target, degradation, DegradeSettings(seed, args.force, shard=shard))
    made = f'{len(report.images)} LR images, x{degradation.scale}, {degradation.label}'
    if report.images:
        made += f'; see {report.record}'
    print(f'{shard.label}{made if report.images or report.failed else EMPTY_SHARD}')
    print_failures(report.failed)
    if args.manifest is None and shard.number == 1:
        print_others(list_others(args.source))
    return 2 if report.failed else 0


def _read_paths(args: argparse.Namespace) -> 'tuple[str | Manifest, str]':
    """Source and target of the arguments; InputError if one is missing or too many."""
    from dasr_arch._errors import InputError
    from dasr_arch.data.input_lists import Manifest

    if args.manifest is None and args.target is not None:
        return args.source, args.target
    if args.manifest is None or args.source is None:
        missing = 'OUT' if args.source is not None or args.manifest is not None else 'IN, OUT'
        raise InputError(f'the following arguments are required: {missing}; see `dasr degrade --help`')
    if args.target is not None:
        raise InputError(f'--manifest lists the inputs; leave {args.source} out')
    return Manifest(args.manifest, with_results=False), args.source


def _read_degradation(args: argparse.Namespace) -> 'tuple[Degradation, int]':
    """Degradation and seed of the arguments; InputError if they are wrong."""
    from dasr_arch._errors import InputError
    from dasr_arch.data.degrade_files import read_degradation_record
    from dasr_arch.degradations import build_degradation

    given = {
        name: getattr(args, name)
        for name in ('noise', 'jpeg', 'downsample', 'border', 'kernel_size')
        if getattr(args, name) is not None
    }
    if args.record is not None:
        other = ('scale', 'theta', 'seed')
        extra = next((name for name in (*given, *other) if getattr(args, name) is not None), None)
        if extra is not None:
            raise InputError(
                f"--{extra.replace('_', '-')} contradicts --record, which takes everything from '{args.record}'"
            )
        record = read_degradation_record(args.record)
        return record.degradation, record.seed
    if args.lambdas is None and args.theta is not None:
        raise InputError('--theta rotates an anisotropic kernel; give --lambda L1 L2 instead of --sigma')
    if args.lambdas is not None:
        lambda_1, lambda_2 = args.lambdas
        theta = 0.0 if args.theta is None else args.theta
        blur = {'type': 'AnisotropicGaussian', 'lambda_1': lambda_1, 'lambda_2': lambda_2, 'theta_deg': theta}
    elif args.photographic is not None:
        shares = _LEVELS[args.photographic]
        blur = {'type': 'Photographic', **({} if shares is None else {'level_probabilities': list(shares)})}
    else:
        blur = {'type': 'IsotropicGaussian', 'sigma': args.sigma}
    try:
        degradation = build_degradation({**blur, **given}, 4 if args.scale is None else args.scale)
    except InputError as error:
        flag = _FLAGS.get(str(error).split()[0])
        raise InputError(f'{flag}: {error}' if flag else f'--{error}') from error
    return degradation, args.seed or 0
