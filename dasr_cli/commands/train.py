"""`dasr train`: trains the network of an option file, as `python train.py` does."""

import argparse

from dasr_cli.arguments import add_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.description = 'Train the network of an option file. The whole file is checked before anything is written.'
    parser.allow_abbrev = False
    add_options(parser, example='train.total_iter=20')
    parser.add_argument('--auto_resume', action='store_true', help='continue an interrupted run of the same name')
    parser.add_argument(
        '--smoke',
        action='store_true',
        help='smoke test: at most 20 iterations on the CPU with small sizes and the demo images',
    )
    parser.add_argument(
        '--force_yml', nargs='+', default=[], metavar='KEY:KEY=VALUE', help="BasicSR's spelling of --set"
    )
    parser.add_argument(
        '--launcher',
        choices=('auto', 'none', 'pytorch'),
        default='auto',
        help='auto: the processes of torchrun; else, on a CPU, a process for each core if that is faster (auto)',
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)  # of torchrun


def run(args: argparse.Namespace) -> int:
    """Trains; returns 0."""
    from dasr_arch.pipelines.training import train

    overrides = (*args.set, *args.force_yml)
    switches = {'launcher': args.launcher, 'auto_resume': args.auto_resume, 'smoke': args.smoke}
    return train(args.options, overrides, **switches)
