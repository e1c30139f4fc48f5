"""MkDocs hooks: pages and files outside docs/ that the manual links to, and option tables from the command-line parser.

On GitHub the pages link to files anywhere in the repository. In the site, a linked file outside docs/ is copied to the
same path, and links to it are rewritten.
"""

import argparse
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from dasr_cli.main import build_parser

ROOT = Path(__file__).parents[1]
WHOLE_LINK = re.compile(r'\[([^]\[]*)\]\(([^)#\s]+)\)')
LINK = re.compile(r'(?<=\]\()([^)#\s]+)')  # target of [text](target), without its anchor
OPTIONS = re.compile(r'^<!-- options: ([\w-]+) -->$', flags=re.MULTILINE)
PAGES = ('CONTRIBUTING.md', 'CHANGELOG.md', 'NOTICE.md', 'datasets/README.md')


def on_files(files: Files, config: Any) -> Files:
    """Adds PAGES, and every file outside docs/ that a page links to."""
    for path in PAGES:
        _add(files, path, config)
    for file in list(files.documentation_pages()):
        for target in _targets(file.src_uri, file.content_string):
            if not target.startswith('docs/') and (ROOT / target).is_file() and target != 'README.md':
                _add(files, target, config)
    return files


def on_page_markdown(markdown: str, page: Page, config: Any, files: Files) -> str:
    """Rewrites links between repository paths to links between pages, and fills in the option tables."""
    uri = page.file.src_uri
    markdown = WHOLE_LINK.sub(lambda found: found[1] if _has_no_page(uri, found[2]) else found[0], markdown)
    markdown = LINK.sub(lambda found: _rewrite(uri, found[1]), markdown)
    return OPTIONS.sub(lambda found: '\n'.join(_option_table(found[1])), markdown)


def _add(files: Files, path: str, config: Any) -> None:
    if files.get_file_from_path(path) is None:
        files.append(File(path, str(ROOT), config.site_dir, config.use_directory_urls))


def _repository_path(uri: str, target: str) -> str:
    """Path from the repository's root of what the page `uri` links to."""
    page = uri if (ROOT / uri).is_file() and uri in PAGES else f'docs/{uri}'
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), target))


def _targets(uri: str, markdown: str) -> Iterator[str]:
    for target in LINK.findall(markdown):
        if '://' not in target:
            yield _repository_path(uri, target)


def _folder_page(path: str) -> str | None:
    names = (f'{path}/index.md', f'{path}/README.md')
    return next((name for name in names if (ROOT / name).is_file()), None)


def _has_no_page(uri: str, target: str) -> bool:
    """True for a link to a folder that has no index: the site shows its text without the link."""
    path = _repository_path(uri, target)
    return '://' not in target and (ROOT / path).is_dir() and _folder_page(path) is None


def _rewrite(uri: str, target: str) -> str:
    if '://' in target:
        return target
    path = _repository_path(uri, target)
    if path == 'README.md':
        path = 'docs/index.md'
    elif (ROOT / path).is_dir():
        path = _folder_page(path) or path
    return posixpath.relpath(path.removeprefix('docs/'), posixpath.dirname(uri) or '.')


def _option_table(command: str) -> Iterator[str]:
    """Markdown table of the arguments of one subcommand."""
    (subparsers,) = (a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    parser = subparsers.choices[command]
    yield from ('', '| Argument | Meaning |', '| --- | --- |')
    for action in parser._actions:
        if action.dest in {'help', 'debug'} or action.help == argparse.SUPPRESS:
            continue
        name = ', '.join(action.option_strings) or str(action.metavar or action.dest)
        value = _value(action)
        spelling = f'{name} {value}' if action.option_strings and value else name
        yield f'| `{spelling.replace("|", chr(92) + "|")}` | {(action.help or "").replace("|", chr(92) + "|")} |'
    yield ''


def _value(action: argparse.Action) -> str:
    """Placeholder of the value that an option takes, empty for a switch."""
    if action.nargs == 0:
        return ''
    if action.choices:
        return '{' + ','.join(map(str, action.choices)) + '}'
    names = action.metavar or action.dest.upper()
    return ' '.join(names) if isinstance(names, tuple) else names
