"""`dasr convert`: weights of ours or of the authors from one kind of file to another."""

import argparse
from typing import Any


def add_parser(subparsers: 'argparse._SubParsersAction[Any]') -> None:
    """Declares the subcommand."""
    parser = subparsers.add_parser(
        'convert',
        help='turn weights into .safetensors or .pth',
        description="Read DASR weights, ours or the authors', .pth or .safetensors, and write the network alone under "
        'our names; the averaged weights (params_ema) where a file holds both.',
    )
    parser.add_argument('source', metavar='IN', help='.pth, .pt or .safetensors file')
    parser.add_argument('target', metavar='OUT', help='.pth or .safetensors file to make')
    parser.add_argument('--half', action='store_true', help='16-bit floats, half the size; they load into float32')
    parser.add_argument(
        '--encoder', action='store_true', help='the degradation encoder alone, for path.pretrain_network_encoder'
    )
    parser.add_argument('--force', action='store_true', help='replace OUT if it exists')
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Converts and says what came out.

    Args:
        args: what the parser gave.

    Returns:
        0.
    """
    from dasr_arch.export.convert import convert_weights

    report = convert_weights(args.source, args.target, half=args.half, encoder=args.encoder, force=args.force)
    print(
        f'{report.path}: x{report.scale}, {report.parameters} parameters, {report.size} bytes; '
        f'largest change of a weight {report.largest_change:.1e}'
    )
    return 0
