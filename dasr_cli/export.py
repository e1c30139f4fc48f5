"""`dasr export`: the network as ONNX, OpenVINO or a program of torch.export, held against torch."""

import argparse
from typing import Any


def add_parser(subparsers: 'argparse._SubParsersAction[Any]') -> None:
    """Declares the subcommand."""
    parser = subparsers.add_parser(
        'export',
        help='turn weights into ONNX, OpenVINO or a torch.export program',
        description='Write a network for another runtime, with free height and width. The file is run there and kept '
        'only if it computes what torch computes. onnx and openvino need the extras of those names.',
    )
    parser.add_argument('model', metavar='MODEL', help='general, iso, a name that `dasr models` lists, or a file')
    parser.add_argument('target', metavar='OUT', nargs='?', help='.onnx, .xml (and .bin beside it), or .pt2 file')
    parser.add_argument('--format', metavar='NAME', help='onnx, openvino or torch (what the ending of OUT says)')
    parser.add_argument('--scale', type=int, help='factor (4, or that of the named weights or file)')
    parser.add_argument('--force', action='store_true', help='replace OUT if it exists')
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Exports and says what was found.

    Args:
        args: what the parser gave.

    Returns:
        0.
    """
    from dasr_arch.export.exporting import choose_target, export_network
    from dasr_arch.inference.upscaler import load_named

    network, name = load_named(args.model, args.scale)
    target, kind = choose_target(name, args.target, args.format)
    report = export_network(network, target, kind, name=name, force=args.force)
    sizes = ', '.join(f'{width} x {height}' for height, width in report.sizes)
    print(
        f'{" and ".join(map(str, report.paths))}: x{report.scale}, {report.parameters} parameters; '
        f'largest difference from torch {report.largest_difference:.1e} in [0, 1], at {sizes}'
    )
    return 0
