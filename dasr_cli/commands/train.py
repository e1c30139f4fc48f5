"""`dasr train`: trains what an option file describes, as `python train.py` does."""

import argparse
from typing import Any

from dasr_cli.arguments import add_options


def add_parser(subparsers: 'argparse._SubParsersAction[Any]') -> None:
    """Declares the subcommand."""
    parser = subparsers.add_parser(
        'train',
        help='train a network',
        description='Train what an option file describes. Everything in the file is checked before anything is made.',
        allow_abbrev=False,
    )
    add_options(parser, example='train.total_iter=20')
    parser.add_argument('--auto_resume', action='store_true', help='continue an interrupted run of the same name')
    parser.add_argument(
        '--smoke',
        action='store_true',
        help='at most 20 iterations on the CPU with small sizes and the demo images, to see that everything runs',
    )
    parser.add_argument(
        '--force_yml', nargs='+', default=[], metavar='KEY:KEY=VALUE', help="BasicSR's spelling of --set"
    )
    parser.add_argument(
        '--launcher',
        choices=('none', 'pytorch'),
        default='none',
        help='pytorch: started by torchrun, several processes',
    )


def run(args: argparse.Namespace) -> int:
    """Trains."""
    from dasr_arch.pipelines import train

    return train(rebuild_arguments(args))


def rebuild_arguments(args: argparse.Namespace) -> list[str]:
    """The command line that train.py takes for the same, without the program's name."""
    line = ['-opt', str(args.options), '--launcher', args.launcher]
    for override in (*args.set, *args.force_yml):
        line.append(f'--set={override}')
    if args.auto_resume:
        line.append('--auto_resume')
    if args.smoke:
        line.append('--smoke')
    if args.debug or args.debug_first:
        line.append('--debug')
    return line
