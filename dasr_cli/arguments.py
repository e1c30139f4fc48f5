"""Arguments that several subcommands share, and old spellings of options."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dasr_cli.messages import print_warning

_MODEL = 'general, iso, photo, a name that `dasr models` lists, or a weights file'


class RenamedOption(argparse.Action):
    """Old spelling of an option, not shown in the help: stores the value as the new option does and warns."""

    def __init__(self, option_strings: Sequence[str], dest: str, *, new: str, **options: Any) -> None:
        super().__init__(option_strings, dest, help=argparse.SUPPRESS, **options)
        self._new = new

    def __call__(
        self, parser: object, namespace: argparse.Namespace, values: object, option_string: str | None = None
    ) -> None:
        """Stores the value."""
        print_warning(f'{option_string} is now {self._new}; the old name will be removed')
        setattr(namespace, self.dest, values)


def add_options(parser: argparse.ArgumentParser, example: str) -> None:
    """Adds -opt, the option file, and --set with an example of its use."""
    parser.add_argument('-opt', '--options', type=Path, required=True, metavar='FILE', help='option file (YAML)')
    parser.add_argument(
        '--set',
        action='append',
        default=[],
        metavar='KEY=VALUE',
        help=f'override a value of the file, such as {example}; may be repeated',
    )


def add_model(
    parser: argparse.ArgumentParser,
    positional: bool = False,
    default: str | None = None,
    more: str = '',
    scales: str = '',
) -> None:
    """Adds the model, as MODEL or as --model, and --scale; ``more`` and ``scales`` are further help on them."""
    if positional:
        parser.add_argument('model', metavar='MODEL', help=_MODEL)
    else:
        parser.add_argument('--model', default=default, help=f'{_MODEL}{more} ({default or "for photographs"})')
    parser.add_argument('--scale', type=int, help=f'upsampling factor{scales} (that of a named model or file, else 4)')


def add_device(parser: 'argparse._ArgumentGroup') -> None:
    """Adds --device and --precision."""
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or mps (auto)')
    parser.add_argument('--precision', default='auto', help='auto, fp32 or bf16 (auto)')


def add_shard(parser: 'argparse.ArgumentParser | argparse._ArgumentGroup', columns: str = 'path') -> None:
    """Adds --shard and --manifest; ``columns`` are those of a manifest."""
    parser.add_argument(
        '--shard',
        metavar='N/M',
        default='1/1',
        help='take part N of M of the inputs; a hash of the file name decides, so the M parts never overlap',
    )
    parser.add_argument(
        '--manifest',
        metavar='FILE',
        help='take the inputs from a file: text, one path a line, or .csv or .parquet with the columns '
        f'{columns}; relative to the current folder',
    )


def add_force(parser: 'argparse.ArgumentParser | argparse._ArgumentGroup') -> None:
    """Adds --force."""
    parser.add_argument('--force', action='store_true', help='replace existing files')


def add_json(parser: argparse.ArgumentParser) -> None:
    """Adds --json."""
    parser.add_argument('--json', action='store_true', help='print JSON instead of text')
