"""`dasr convert`: converts weights, ours or the authors', between file formats."""

import argparse

from dasr_cli.arguments import add_force, add_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.description = (
        "Convert DASR weights, ours or the authors', to a file with the network alone under our key names. "
        'From a checkpoint with both, the averaged weights (params_ema) are taken.'
    )
    add_model(parser, positional=True)
    parser.add_argument('target', metavar='OUT', help='.pth or .safetensors file')
    parser.add_argument('--half', action='store_true', help='store 16-bit floats; they are loaded as float32')
    parser.add_argument(
        '--encoder', action='store_true', help='the degradation encoder alone, for path.pretrain_network_encoder'
    )
    add_force(parser)


def run(args: argparse.Namespace) -> int:
    """Converts and prints a summary."""
    from dasr_arch.export.convert import convert_weights
    from dasr_arch.inference.load_model import locate_weights

    source, options = locate_weights(args.model, args.scale), {'half': args.half, 'encoder': args.encoder}
    report = convert_weights(source, args.target, scale=args.scale, force=args.force, **options)
    print(
        f'{report.path}: x{report.scale}, {report.parameters} parameters, {report.size} bytes; '
        f'largest change of a weight {report.largest_change:.1e}'
    )
    return 0
