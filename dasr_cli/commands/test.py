"""`dasr test`: data sets x degradations x networks, as an option file describes them."""

import argparse

from dasr_cli.arguments import add_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.description = (
        'Test networks on data sets and degradations. Results are stored: an interrupted run continues, and what '
        'depends on changed weights, images or degradations is computed again. Exit code 1 if an evaluation failed.'
    )
    add_options(parser, example='networks.DASR=~ to leave a network out')


def run(args: argparse.Namespace) -> int:
    """Runs the test and prints its tables; returns 1 if an evaluation failed."""
    from dasr_arch.pipelines.testing import run_test_file

    report = run_test_file(args.options, args.set)
    failures = f'; {report.failures} evaluations failed' if report.failures else ''
    print(f'{report.console}\ntables, cached results and images: {report.folder}{failures}')
    return 1 if report.failures else 0
