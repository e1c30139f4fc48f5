"""Counts lines, files and imports, and compares them with their targets: `python tools/count_lines.py [--check]`."""

import argparse
import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ('dasr_arch', 'dasr_cli')
NETWORK = 'dasr_arch.archs.dasr_arch'


@dataclass(frozen=True)
class Count:
    """One number beside the largest value it may have."""

    label: str
    value: int
    limit: int
    detail: str = ''

    @property
    def is_met(self) -> bool:
        """True if the value does not exceed the limit."""
        return self.value <= self.limit


def count_everything(root: Path) -> list[Count]:
    """All counts of a checkout.

    Args:
        root: the repository's folder.
    """
    modules = sorted(path for package in PACKAGES for path in (root / package).rglob('*.py'))
    options = sorted((root / 'options').rglob('*.yml'))
    network = root / 'dasr_arch' / 'archs' / 'dasr_arch.py'
    imported = sorted(imported_modules(root, NETWORK) - {NETWORK})
    folder, most_files = largest_folder(root, modules)
    return [
        Count('lines of Python in dasr_arch and dasr_cli', count_lines(modules), 30_000, f'{len(modules)} files'),
        Count('lines of option files', count_lines(options), 7_000, f'{len(options)} files'),
        Count('lines of archs/dasr_arch.py', count_lines([network]), 300),
        Count('modules imported by archs/dasr_arch.py', len(imported), 5, ', '.join(imported)),
        Count('Python files in the largest folder', most_files, 16, folder),
        Count("lines with the word 'picture' (git grep -iw)", count_matches(root, 'picture'), 50),
    ]


def count_lines(paths: list[Path]) -> int:
    """Lines of all files together, blank ones included."""
    return sum(len(path.read_text(encoding='utf-8').splitlines()) for path in paths)


def largest_folder(root: Path, modules: list[Path]) -> tuple[str, int]:
    """Folder with the most modules, and their number; __init__.py and __main__.py do not count."""
    folders = Counter(path.parent for path in modules if not path.stem.startswith('__'))
    (folder, number) = folders.most_common(1)[0]
    return folder.relative_to(root).as_posix(), number


def imported_modules(root: Path, name: str) -> set[str]:
    """Modules of the packages that importing `name` loads, itself included.

    Imports inside functions and under TYPE_CHECKING are not followed, and neither are the packages' __init__.py.
    """
    found: set[str] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop()
        if current in found:
            continue
        found.add(current)
        tree = ast.parse(_file_of(root, current).read_text(encoding='utf-8'))
        waiting += [module for module in _imports(tree) if _file_of(root, module).is_file()]
    return found


def _imports(tree: ast.Module) -> Iterator[str]:
    """Names that may be modules, among those that the module-level statements import."""
    waiting: list[ast.stmt] = list(tree.body)
    while waiting:
        statement = waiting.pop()
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom) and statement.module and statement.level == 0:
            yield statement.module
            yield from (f'{statement.module}.{alias.name}' for alias in statement.names)
        elif isinstance(statement, ast.If) and 'TYPE_CHECKING' not in ast.dump(statement.test):
            waiting += [*statement.body, *statement.orelse]
        elif isinstance(statement, ast.Try):
            waiting += [*statement.body, *(line for handler in statement.handlers for line in handler.body)]


def _file_of(root: Path, module: str) -> Path:
    return root / (module.replace('.', '/') + '.py')


def count_matches(root: Path, word: str) -> int:
    """Lines of tracked text files that contain the word, in any case.

    Raises:
        RuntimeError: outside a git checkout.
    """
    command = ['git', 'grep', '-I', '--ignore-case', '--word-regexp', word]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if result.returncode not in (0, 1):
        raise RuntimeError(result.stderr.strip())
    return len(result.stdout.splitlines())


def format_table(counts: list[Count]) -> str:
    """The counts as a Markdown table."""
    rows = ['| Count | Now | At most | | |', '| --- | ---: | ---: | --- | --- |']
    for count in counts:
        verdict = 'met' if count.is_met else 'MISSED'
        rows.append(f'| {count.label} | {count.value:,} | {count.limit:,} | {verdict} | {count.detail} |')
    return '\n'.join(rows)


def main() -> None:
    """Prints the table; with --check, exits with 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--check', action='store_true', help='exit with 1 if a target is missed')
    arguments = parser.parse_args()
    counts = count_everything(ROOT)
    print(format_table(counts))
    if arguments.check and not all(count.is_met for count in counts):
        sys.exit(1)


if __name__ == '__main__':
    main()
