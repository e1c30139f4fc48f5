"""Entry of the `dasr` command: finds the subcommand, runs it, and prints input errors as one line."""

import argparse
import importlib
import importlib.util
import io
import os
import re
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

from dasr_cli.messages import show

MODULES: dict[str, str] = {
    'upscale': 'upscale images or video',
    'compare-models': 'compare all installed models on an image in an HTML page',
    'inspect': 'estimate blur, noise and JPEG quality of images',
    'models': 'list the installed weights',
    'convert': 'convert weights to .safetensors or .pth',
    'export': 'export weights to ONNX, OpenVINO or torch.export',
    'serve': 'serve a web page and an HTTP API',
    'prepare': 'make an LMDB for training from folders of images',
    'download': 'download DIV2K, Flickr2K or a benchmark set',
    'degrade': 'make LR images from HR images',
    'train': 'train a network',
    'test': 'test networks on data sets and degradations, with tables of PSNR and SSIM',
    'demo': 'train and test a small DASR on bundled images and write a results page',
    'probe': 'fit a linear probe on the representation, for `dasr inspect`',
    'bench': 'measure time and memory of inference and training',
    'doctor': 'show versions, devices, precisions and the packages that features lack',
}
"""Modules of `dasr_cli.commands`, one a subcommand, with their lines of the help text."""

FAILURE_CODE = 1
INPUT_ERROR_CODE = 2
INTERRUPTED_CODE = 130


class OneLineParser(argparse.ArgumentParser):
    """Parser whose errors are one line with a remedy, as all other errors of the command."""

    def error(self, message: str) -> NoReturn:
        """Ends the process with exit code 2."""
        self.exit(INPUT_ERROR_CODE, f'dasr: error: {message}; see `{self.prog} --help`\n')


def read_version() -> str:
    """Version of the installed dasr_arch, read from its version.py without importing the package (and with it torch).

    Raises RuntimeError if dasr_arch is not installed beside dasr_cli, or holds no version.
    """
    spec = importlib.util.find_spec('dasr_arch')
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError('the package dasr_arch is not installed; run `pip install .` in the project folder')
    path = Path(spec.submodule_search_locations[0]) / 'version.py'
    found = re.search(r"^__version__ = '([^']+)'$", path.read_text(encoding='utf-8'), flags=re.MULTILINE)
    if found is None:
        raise RuntimeError(f"{path} holds no line of the form: __version__ = '1.2.3'")
    return found.group(1)


def build_parser() -> argparse.ArgumentParser:
    """Parser of the whole command, with every subcommand of MODULES."""
    parser = OneLineParser(
        prog='dasr',
        description='Blind super-resolution by unsupervised degradation representation learning (DASR, CVPR 2021).',
    )
    version = f'dasr {read_version()}'
    parser.add_argument('--version', action='version', version=version, help='print the version and exit')
    parser.add_argument('--debug', dest='debug_first', action='store_true', help='show the traceback of an error')
    subparsers = parser.add_subparsers(dest='command', metavar='COMMAND', required=True)
    for name, summary in MODULES.items():
        module = importlib.import_module(f'dasr_cli.commands.{name.replace("-", "_")}')
        subparser = subparsers.add_parser(name, help=summary)
        module.add_arguments(subparser)
        if Path(sys.argv[0]).name == f'{name}.py':
            subparser.prog = f'python {name}.py'  # train.py and test.py pass their arguments to the subcommand
        subparser.set_defaults(func=module.run)
        subparser.add_argument('--debug', action='store_true', help='show the traceback of an error')
    return parser


def describe_error(error: Exception) -> str | None:
    """One line without line breaks for an InputError, DivergedError or OSError; None for a bug."""
    if isinstance(error, OSError) and error.strerror is not None:
        names = [os.fspath(name) for name in (error.filename, error.filename2) if isinstance(name, str | os.PathLike)]
        return ': '.join([' -> '.join(map(str, names)), error.strerror] if names else [error.strerror])
    known = isinstance(error, OSError) or _is_ours(error, 'InputError') or _is_ours(error, 'DivergedError')
    return ' '.join(str(error).split()) if known else None


def _is_ours(error: Exception, name: str) -> bool:
    errors = sys.modules.get('dasr_arch._errors')  # if it is not loaded by now, nothing can have raised it
    return errors is not None and isinstance(error, getattr(errors, name))


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Lets SIGTERM, as systemd and Slurm send it, and SIGHUP, of a terminal that is gone, end a command as Ctrl-C does.

    Nothing half written is left. A SIGHUP that nohup ignores stays ignored.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    numbers = [getattr(signal, name) for name in ('SIGTERM', 'SIGHUP') if hasattr(signal, name)]  # Windows has one
    try:
        before = {
            number: signal.signal(number, stop) for number in numbers if signal.getsignal(number) != signal.SIG_IGN
        }
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_guarded(work: Callable[[], int], debug: bool = False) -> int:
    """Runs a command's work and returns its exit code; a bug shows its traceback.

    The code is 2 after an InputError or OSError, 1 after a DivergedError or if the pipe was closed, and 130
    after Ctrl-C, SIGTERM or SIGHUP. ``debug`` shows the traceback of input errors, too.
    """
    try:
        with stopped_by_signals():
            code = work()
        sys.stdout.flush()
    except KeyboardInterrupt:
        with suppress(OSError):  # Ctrl-C has ended `2>&1 | tee`, too
            print('dasr: interrupted', file=sys.stderr)
        return INTERRUPTED_CODE
    except BrokenPipeError:  # the pipe was closed; the interpreter's own flush at exit must not fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILURE_CODE
    except Exception as error:
        line = describe_error(error)
        if line is None:
            raise
        if debug:
            traceback.print_exc()
        process = os.environ.get('RANK', '0')  # of torchrun, whose processes read different images
        diverged = _is_ours(error, 'DivergedError')  # in all of them
        if process == '0' or not diverged:
            print(f'dasr: error: {f"process {process}: " if process != "0" else ""}{show(line)}', file=sys.stderr)
        return FAILURE_CODE if diverged else INPUT_ERROR_CODE
    return code


def open_closed_streams() -> None:
    """Connects standard streams that the caller has closed (`2>&-`) to nothing.

    Python has None for them then, and the next file that is opened gets their number: messages went into results.
    """
    for number, (name, mode) in enumerate((('stdin', 'r'), ('stdout', 'w'), ('stderr', 'w'))):
        if getattr(sys, name) is None:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115 (open to the end)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand; the arguments are those of the process if ``argv`` is None.

    Returns its exit code, 2 for wrong input, or 130 after Ctrl-C.
    """
    open_closed_streams()
    words = sys.argv[1:] if argv is None else argv
    arguments = build_parser().parse_args(words)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors='backslashreplace')  # file names may hold what a terminal cannot show
    if not sys.warnoptions:
        warnings.filterwarnings('ignore', module='PIL')  # of odd files; what a result lacks is said in our own words
    if any(re.fullmatch(r'|--?[a-z-]+=', word) for word in words):  # as of --out="$UNSET"
        print('dasr: error: an argument is empty; is a variable of the script unset?', file=sys.stderr)
        return INPUT_ERROR_CODE
    return run_guarded(lambda: arguments.func(arguments), arguments.debug_first or arguments.debug)
