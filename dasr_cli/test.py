"""`dasr test`: data sets x degradations x networks, as an option file describes them."""

import argparse
from pathlib import Path
from typing import Any


def add_parser(subparsers: 'argparse._SubParsersAction[Any]') -> None:
    """Adds the subcommand.

    Args:
        subparsers: where it goes.
    """
    parser = subparsers.add_parser(
        'test',
        help='test networks on data sets and degradations, with tables of PSNR and SSIM',
        description='Test networks on data sets and degradations. Every finished part is stored: a run that was '
        'stopped goes on, and a changed weight, image or degradation is computed anew. Exit code 1 if a part failed.',
    )
    parser.add_argument('-opt', '--options', type=Path, required=True, metavar='FILE', help='option file (YAML)')
    parser.add_argument(
        '--set',
        action='append',
        default=[],
        metavar='KEY=VALUE',
        help='lay a value over the file, such as networks.DASR=~ to leave a network out; may be repeated',
    )
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Runs the test and prints its tables.

    Args:
        args: what the parser gave.

    Returns:
        0, or 1 if a cell failed.
    """
    from dasr_arch.pipelines.testing import describe_report, run_test_file

    report = run_test_file(args.options, args.set)
    print(describe_report(report), end='')
    return report.exit_code
