"""`dasr demo`: a small training and test with a results page, in minutes and without a download."""

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.description = (
        'Prepare data, train both stages of a small DASR, test it on a grid of degradations, and write '
        'a results page. Takes a few minutes on two cores and downloads nothing.'
    )
    parser.add_argument(
        '--out', type=Path, metavar='DIR', help='new folder for all output (results/demo, or the next number)'
    )


def run(args: argparse.Namespace) -> int:
    """Runs the demo and prints the address of the page."""
    from dasr_arch.pipelines.demo import choose_folder, run_demo

    folder = choose_folder(args.out)
    try:
        report = run_demo(folder)
    except (KeyboardInterrupt, OSError):
        if folder.exists():
            print(f'the demo did not finish; what it made so far is in {folder}', file=sys.stderr)
        raise
    print(report.console)
    print(f'done in {report.seconds / 60:.1f} minutes; open in a browser: {report.page.resolve().as_uri()}')
    return 0
