"""`dasr export`: exports a network to ONNX, OpenVINO or torch.export and compares its output with torch."""

import argparse

from dasr_cli.arguments import add_force, add_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.description = (
        'Export a network with dynamic height and width. The file is run in its runtime and kept only if '
        'its output equals that of torch. onnx and openvino need the extras of those names.'
    )
    add_model(parser, positional=True)
    parser.add_argument('target', metavar='OUT', nargs='?', help='.onnx, .xml (and .bin beside it), or .pt2 file')
    parser.add_argument('--format', metavar='NAME', help='onnx, openvino or torch (by the ending of OUT)')
    add_force(parser)


def run(args: argparse.Namespace) -> int:
    """Exports and prints the largest difference from torch."""
    from dasr_arch.export.exporting import choose_target, export_network
    from dasr_arch.inference.load_model import load_named

    network, name = load_named(args.model, args.scale)
    target, kind = choose_target(name, args.target, args.format)
    report = export_network(network, target, kind, name=name, force=args.force)
    sizes = ', '.join(f'{width} x {height}' for height, width in report.sizes)
    print(
        f'{" and ".join(map(str, report.paths))}: x{report.scale}, {report.parameters} parameters; '
        f'largest difference from torch {report.largest_difference:.1e} in [0, 1], at {sizes}'
    )
    return 0
