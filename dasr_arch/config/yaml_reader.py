"""Reads option files as plain data: no code, no duplicate keys; errors name the line.

The common YAML loaders either run code or silently keep the last of two equal keys. This one is PyYAML's safe loader,
with checks of the tree of nodes before values are made of it.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from dasr_arch._errors import InputError
from dasr_arch.config.smoke import shrink_options

MAX_BYTES = 1 << 20
"""Largest option file that is read."""

MAX_NODES = 100_000
"""Largest number of values in a file after expansion of its aliases."""

_TAG_PREFIX = 'tag:yaml.org,2002:'
_PLAIN_TAGS = frozenset(f'{_TAG_PREFIX}{name}' for name in ('null', 'bool', 'int', 'float', 'str', 'seq', 'map'))
_MERGE_TAG = f'{_TAG_PREFIX}merge'
_logger = logging.getLogger('dasr_arch')


class _PlainLoader(yaml.SafeLoader):
    """The safe loader; dates stay text."""


_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != f'{_TAG_PREFIX}timestamp']
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_yaml(path: str | Path, overrides: Sequence[str] = (), *, smoke: bool = False) -> dict[str, object]:
    """Reads an option file and overrides single values.

    The file is UTF-8, with a mapping at the top. Old paths of files that have moved are accepted with a warning.
    ``overrides`` are `train.total_iter=20` or BasicSR's `train:total_iter=20`; values are YAML, read as safely as the
    file. A numeric part indexes a list. The schema checks new keys later. ``smoke`` makes a training file small
    (:func:`~dasr_arch.config.smoke.shrink_options`) before values are overridden.

    Returns dictionaries, lists, text, numbers, truth values and None only. Raises InputError if the file is missing, a
    folder, binary, empty, not YAML, carries code or other tags, names a key twice, or an override cannot be applied.
    """
    path, moved_smoke = find_moved(Path(path))
    options = parse_yaml(_read_text(path), str(path))
    if options is None:
        raise InputError(f'{path}: the option file is empty; expected sections such as name, datasets and network_g')
    if not isinstance(options, dict):
        raise InputError(f'{path}: expected a mapping (key: value) at the top, got {_kind(options)}')
    if smoke or moved_smoke:
        options = shrink_options(options)
    for override in overrides:
        _apply_override(options, override)
    return options


def find_moved(path: Path) -> tuple[Path, bool]:
    """The present path of a file that has moved, for one release, and True if it is to be made small.

    `options/smoke/smoke_NAME.yml` is `options/train_NAME.yml` with the switch `--smoke`; earlier courses of the
    packaged weights lie in `docs/models/courses/` instead of `options/weights/`. Any other path comes back as it is.
    """
    folder, moved = path.parent, path
    smoke = folder.name == 'smoke' and path.name.startswith('smoke_')
    if smoke:
        moved = folder.parent / f'train_{path.name.removeprefix("smoke_")}'
    elif folder.name == 'weights':
        moved = folder.parent.parent / 'docs' / 'models' / 'courses' / path.name
    if path.exists() or not moved.is_file():
        return path, False
    _logger.warning('%s is now %s%s; the old path will be removed', path, moved, ' with --smoke' if smoke else '')
    return moved, smoke


def parse_yaml(text: str, where: str) -> object:
    """Reads one YAML document as plain data, None for an empty text; ``where`` is its name in messages.

    Raises InputError as `read_yaml` does.
    """
    try:
        loader = _PlainLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _check_tree(loader, node, where)
            return _unshare(loader.construct_document(node))
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        raise InputError(_describe_syntax_error(error, where)) from error
    except yaml.YAMLError as error:
        raise InputError(f'{where}: not valid YAML: {" ".join(str(error).split())}') from error
    except RecursionError as error:
        raise InputError(f'{where}: values are nested too deeply for an option file') from error


def _unshare(value: object) -> object:
    """A copy in which aliases of one value are separate values, so that each can be set alone."""
    if isinstance(value, dict):
        return {key: _unshare(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_unshare(item) for item in value]
    return value


def _read_text(path: Path) -> str:
    try:
        with path.open('rb') as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise InputError(f'{path}: the option file does not exist{_neighbours(path)}') from error
    except IsADirectoryError as error:
        raise InputError(f'{path}: expected an option file, got a folder') from error
    except OSError as error:
        raise InputError(f'{path}: the option file cannot be read: {error.strerror}') from error
    if b'\0' in data:
        raise InputError(f'{path}: expected an option file in YAML, got a binary file')
    if len(data) > MAX_BYTES:
        raise InputError(f'{path}: expected an option file of at most {MAX_BYTES} bytes, got a longer one')
    try:
        return data.decode('utf-8-sig')
    except UnicodeDecodeError as error:
        raise InputError(f'{path}: the option file is not UTF-8 text (byte {error.start})') from error


def _neighbours(path: Path) -> str:
    """The option files beside a missing one, as the end of a message."""
    if not path.parent.is_dir():
        return f'; neither does its folder {path.parent}'
    names = sorted(file.name for file in path.parent.iterdir() if file.suffix in {'.yml', '.yaml'})
    return f'; in that folder: {", ".join(names)}' if names else '; that folder holds no option file'


def _check_tree(loader: _PlainLoader, root: yaml.Node, where: str) -> None:
    """Refuses nodes that plain data cannot hold, before values are made; scalars are tried on the loader."""
    weights: dict[int, int] = {}  # values below a node once aliases are written out, 0 while being counted

    def visit(node: yaml.Node) -> int:
        known = weights.get(id(node))
        if known == 0:
            raise InputError(f'{where}:{_line(node)}: an alias refers to a value that contains it')
        if known is not None:
            return known
        weights[id(node)] = 0
        weight = 1
        if isinstance(node, yaml.MappingNode):
            _check_keys(node, where)
            weight += sum(visit(value) for _, value in node.value)
        elif isinstance(node, yaml.SequenceNode):
            weight += sum(visit(value) for value in node.value)
        _check_tag(loader, node, where)
        if weight > MAX_NODES:
            raise InputError(f'{where}:{_line(node)}: more than {MAX_NODES} values, too many for an option file')
        weights[id(node)] = weight
        return weight

    visit(root)


def _check_keys(node: yaml.MappingNode, where: str) -> None:
    seen: dict[str, int] = {}
    for key_node, _ in node.value:
        if key_node.tag == _MERGE_TAG:
            continue
        if key_node.tag != f'{_TAG_PREFIX}str' or not isinstance(key_node, yaml.ScalarNode):
            got = f"'{key_node.value}'; put it in quotes" if isinstance(key_node, yaml.ScalarNode) else 'a collection'
            raise InputError(f'{where}:{_line(key_node)}: keys must be text, got {got}')
        key = key_node.value
        if key in seen:
            raise InputError(
                f"{where}:{_line(key_node)}: the key '{key}' is already given in line {seen[key]}; keep one of them"
            )
        seen[key] = _line(key_node)


def _check_tag(loader: _PlainLoader, node: yaml.Node, where: str) -> None:
    place = f'{where}:{_line(node)}'
    if node.tag not in _PLAIN_TAGS:
        tag = node.tag.replace(_TAG_PREFIX, '!!')
        raise InputError(f"{place}: the tag '{tag}' is refused; option files hold plain values and run no code")
    if not isinstance(node, yaml.ScalarNode):
        expected = 'map' if isinstance(node, yaml.MappingNode) else 'seq'
        if node.tag != f'{_TAG_PREFIX}{expected}':
            raise InputError(f'{place}: {node.tag.replace(_TAG_PREFIX, "!!")} cannot stand before a list or mapping')
        return
    try:
        loader.construct_object(node)
    except (ValueError, LookupError, yaml.YAMLError) as error:
        kind = node.tag.removeprefix(_TAG_PREFIX)
        raise InputError(f"{place}: '{node.value[:40]}' cannot be read as !!{kind}") from error


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _describe_syntax_error(error: yaml.MarkedYAMLError, where: str) -> str:
    mark = error.problem_mark or error.context_mark
    place = f'{where}:{mark.line + 1}:{mark.column + 1}' if mark else where
    problem = ' '.join(str(error.problem or error.context).split())
    hint = ''
    if "'\\t'" in problem:
        before = (mark.buffer or '')[: mark.pointer].rpartition('\n')[2] if mark else ''
        hint = '; replace the tab by a space' if before.strip() else '; indent with spaces'
    return f'{place}: not valid YAML: {problem}{hint}'


def _apply_override(options: dict[str, object], override: str) -> None:
    """Sets one value in place; missing sections are created."""
    name, equals, text = override.partition('=')
    name = name.strip()
    parts = name.split(':' if ':' in name else '.')
    if not equals or not all(part.strip() for part in parts):
        raise InputError(f"--set '{override}': expected key=value, such as train.total_iter=20")
    value = parse_yaml(text, f"--set '{override}'")
    here: Any = options
    for depth, part in enumerate(parts):
        key: Any = part
        if isinstance(here, list):
            if not (part.isascii() and part.isdigit()) or int(part) >= len(here):
                raise InputError(f"--set '{override}': expected a number below {len(here)} for the list, got '{part}'")
            key = int(part)
        elif not isinstance(here, dict):
            raise InputError(f"--set '{override}': '{'.'.join(parts[:depth])}' is {_kind(here)}, it has no keys")
        elif here.get(part) is None:
            here[part] = {}
        if depth == len(parts) - 1:
            here[key] = value
        here = here[key]


def _kind(value: object) -> str:
    """Kind of a value of an option file, in words."""
    words = {bool: 'a truth value', int: 'a number', float: 'a number', str: 'text', list: 'a list', dict: 'a mapping'}
    return words.get(type(value), 'nothing')
