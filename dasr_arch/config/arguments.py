"""The arguments of training, the same for `train.py` and `dasr train`."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

Launcher = Literal['none', 'pytorch']

SMOKE_HELP = 'at most 20 iterations on the CPU with small sizes and the demo images, to see that everything runs'


class OneLineParser(argparse.ArgumentParser):
    """Parser whose errors are one line that names the way out, like every other error."""

    def error(self, message: str) -> NoReturn:
        """Ends the process with exit code 2."""
        self.exit(2, f'dasr: error: {message}; see `python {self.prog} --help`\n')


@dataclass(frozen=True)
class TrainingArguments:
    """The command line of train.py.

    ``overrides`` are `key=value`, laid over the option file. ``auto_resume`` continues from the newest whole state of
    the experiment, if there is one. ``launcher`` is 'pytorch' when torchrun started this process among several.
    """

    options: Path
    overrides: tuple[str, ...] = ()
    auto_resume: bool = False
    smoke: bool = False
    launcher: Launcher = 'none'
    debug: bool = False


def parse_training_arguments(argv: Sequence[str] | None = None) -> TrainingArguments:
    """Read the command line of train.py; wrong arguments end the process with exit code 2."""
    parser = _make_parser('train.py', 'Train what an option file describes.', 'train.total_iter=20')
    parser.add_argument('--auto_resume', action='store_true', help='continue an interrupted run of the same name')
    parser.add_argument('--smoke', action='store_true', help=SMOKE_HELP)
    parser.add_argument(
        '--force_yml', nargs='+', default=[], metavar='KEY:KEY=VALUE', help="BasicSR's spelling of --set"
    )
    parser.add_argument(
        '--launcher',
        choices=('none', 'pytorch'),
        default='none',
        help='pytorch: started by torchrun, several processes',
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    parsed = parser.parse_args(argv)
    return TrainingArguments(
        options=parsed.options,
        overrides=(*parsed.set, *parsed.force_yml),
        auto_resume=parsed.auto_resume,
        smoke=parsed.smoke,
        launcher=parsed.launcher,
        debug=parsed.debug,
    )


@dataclass(frozen=True)
class TestingArguments:
    """The command line of test.py. ``overrides`` are `key=value`, laid over the option file."""

    options: Path
    overrides: tuple[str, ...] = ()
    debug: bool = False


def parse_testing_arguments(argv: Sequence[str] | None = None) -> TestingArguments:
    """Read the command line of test.py; wrong arguments end the process with exit code 2."""
    parsed = _make_parser('test.py', 'Test what an option file describes.', 'seed=1').parse_args(argv)
    return TestingArguments(options=parsed.options, overrides=tuple(parsed.set), debug=parsed.debug)


def _make_parser(script: str, description: str, override: str) -> OneLineParser:
    """A parser of the arguments that both scripts have, with an example of an override."""
    parser = OneLineParser(prog=script, description=description, allow_abbrev=False)
    parser.add_argument('-opt', '--options', type=Path, required=True, metavar='FILE', help='option file (YAML)')
    parser.add_argument(
        '--set',
        action='append',
        default=[],
        metavar='KEY=VALUE',
        help=f'lay a value over the file, such as {override}; may be repeated',
    )
    parser.add_argument('--debug', action='store_true', help='show the traceback of an error')
    return parser
