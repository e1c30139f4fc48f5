"""Conversion of plain option data to typed structures; an error is one line that names the key.

The structures are `msgspec.Struct`s that forbid unknown fields. Values are converted one by one rather than by msgspec
as a whole, so that a message names the dotted key (`train.stage_1.lr`), the nearest known key and the remedy. Options
of classes of other packages have no structure: `check_arguments` validates them against the signature.
"""

import inspect
import logging
import math
import re
import types
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from dasr_arch._errors import InputError, suggest

StructType = TypeVar('StructType', bound=msgspec.Struct)

_logger = logging.getLogger('dasr_arch')
_EXPONENT = re.compile(r'([+-]?\d+)(?:\.(\d*))?[eE]([+-]?)(\d+)')


def convert(data: object, kind: type[StructType], where: str, path: str = '', *, foreign: bool = False) -> StructType:
    """Converts plain data, which are not changed, to a structure with its defaults filled in.

    A whole number written as a float (`!!float 5e3`) is taken for a whole number where one is expected. In the
    structure `Annotated[..., msgspec.Meta(...)]` gives ranges, `Meta(description=...)` replaces the text for what is
    expected, a `__post_init__` that raises ValueError checks several keys together, and a class variable ``renamed``
    maps old spellings of keys to the present ones.

    ``where`` is the file, which opens every message, and ``path`` the dotted key that the data stand at. ``foreign``:
    the data belong to a class that is not ours, and unknown keys are left out with a warning. Raises InputError on an
    unknown, missing or wrongly typed key, a value out of range, or a number that is not finite.
    """
    check_finite(data, where, path)
    value = _shape(data, kind, _Place(where, path, foreign))
    assert isinstance(value, kind)
    return value


def to_plain(structure: msgspec.Struct) -> dict[str, object]:
    """A structure as new dictionaries and lists, defaults included."""
    plain: dict[str, object] = msgspec.to_builtins(structure)
    return plain


def check_finite(data: object, where: str, path: str = '') -> None:
    """Raises InputError for NaN, infinity and whole numbers beyond 64 bits anywhere in plain data."""
    for value, place in _walk(data, _Place(where, path)):
        if isinstance(value, float) and not math.isfinite(value):
            raise place.error(f'expected a finite number, got {value}')
        if isinstance(value, int) and abs(value) >= 1 << 63:
            raise place.error(f'expected a number below 2 to the 63rd, got one of {len(str(abs(value)))} digits')


def check_arguments(
    function: Callable[..., object], arguments: Mapping[str, object], where: str, skip: Collection[str] = ()
) -> None:
    """Validates the options of a class or function of another package against its signature.

    Names in ``skip``, such as `type`, may be absent or unknown. Raises InputError on an unknown argument, with the
    nearest known one, on a missing one, and on a value whose type differs from that of the default. If the signature
    accepts any name (`**kwargs`), only a name similar to one of the others is refused.
    """
    parameters = inspect.signature(function).parameters.values()
    named = [p for p in parameters if p.kind in {p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY} and p.name not in skip]
    known = {parameter.name for parameter in named}
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    name = getattr(function, '__name__', str(function))
    for key in arguments:
        if key in known or key in skip:
            continue
        if not takes_any or get_close_matches(key, known, n=1, cutoff=0.8):
            raise InputError(f"{where}: {name} takes no argument '{key}'{suggest(key, known)}")
    for parameter in named:
        if parameter.name in arguments:
            _check_default_kind(arguments[parameter.name], parameter.default, f'{where}.{parameter.name}')
    missing = [p.name for p in named if p.default is p.empty and p.name not in arguments]
    if missing:
        raise InputError(f"{where}: {name} needs the argument '{missing[0]}'")


def check_known(name: object, known: Collection[str], where: str, what: str) -> str:
    """The name under which something is registered; BasicSR finds `X_basicsr` under `X` as well.

    ``what`` says what is named, such as 'arch'. Raises InputError that lists the known names and the nearest.
    """
    if not isinstance(name, str):
        raise InputError(f'{where}: expected the name of a registered {what}, got {_got(name)}{suggest("", known)}')
    for candidate in (name, f'{name}_basicsr'):
        if candidate in known:
            return candidate
    raise InputError(f"{where}: no {what} is called '{name}'{suggest(name, known)}")


def section(options: Mapping[str, object], key: str, where: str) -> dict[str, object]:
    """A part of the options that must be a mapping, else InputError; empty where the key is absent or null."""
    value = options.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InputError(f'{where}: {key}: expected a mapping, got {_got(value)}')
    return value


class _Place(NamedTuple):
    """Place of a value."""

    where: str  # the file
    path: str = ''  # dotted key
    foreign: bool = False  # of a class that is not ours

    def at(self, key: str) -> '_Place':
        return _Place(self.where, f'{self.path}.{key}' if self.path else key, self.foreign)

    def error(self, text: str) -> InputError:
        return InputError(f'{self.where}: {self.path}: {text}' if self.path else f'{self.where}: {text}')


def _walk(data: object, place: _Place) -> Iterator[tuple[object, _Place]]:
    """The values in mappings and lists at any depth, each with its place."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            yield from _walk(value, place.at(key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from _walk(value, place.at(str(index)))
    else:
        yield data, place


def _shape(value: object, kind: object, place: _Place) -> object:
    """Converts a value to its kind, the innermost structures first."""
    if kind is object:
        for leaf, own in _walk(value, place):
            if isinstance(leaf, str) and _EXPONENT.fullmatch(leaf.strip()):  # YAML 1.1 reads 1e-4 as text
                raise own.error(f'expected a number, got {_got(leaf)}{_hint(leaf, float)}')
        return value
    bare = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    arms = get_args(bare) if get_origin(bare) in {Union, types.UnionType} else (bare,)
    for arm in arms:
        inner = get_args(arm)[0] if get_origin(arm) is Annotated else arm
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct) and isinstance(value, dict):
            return _shape_struct(value, inner, place)
        if get_origin(inner) is dict and isinstance(value, dict):
            checked: object = {key: _shape(item, get_args(inner)[1], place.at(key)) for key, item in value.items()}
            return _check_leaf(checked, arm, place)
        if get_origin(inner) is list and isinstance(value, list):
            return _check_leaf(
                [_shape(item, get_args(inner)[0], place.at(str(i))) for i, item in enumerate(value)], arm, place
            )
        if get_origin(inner) is tuple and isinstance(value, list) and len(value) == len(get_args(inner)):
            return tuple(_shape(item, part, place) for item, part in zip(value, get_args(inner), strict=True))
    return _check_leaf(value, kind, place)


def _shape_struct(data: Mapping[str, object], kind: type[msgspec.Struct], place: _Place) -> msgspec.Struct:
    hints = get_type_hints(kind, include_extras=True)
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    data = _rename_keys(data, getattr(kind, 'renamed', {}), place)
    for key in data.keys() - fields.keys():
        if not place.foreign:
            raise place.error(f"unknown key '{key}'{suggest(str(key), fields)}")
        _logger.warning('%s', place.error(f"the key '{key}' is not checked; known here: {', '.join(sorted(fields))}"))
    missing = [name for name, field in fields.items() if field.required and name not in data]
    if missing:
        raise place.error(f"the key '{missing[0]}' is missing; expected {describe_kind(hints[missing[0]])}")
    values = {key: _shape(value, hints[key], place.at(key)) for key, value in data.items() if key in fields}
    try:
        return kind(**values)
    except ValueError as error:
        raise place.error(str(error)) from error


def _rename_keys(data: Mapping[str, object], renamed: Mapping[str, str], place: _Place) -> Mapping[str, object]:
    """The same data with the present spelling of keys; an old spelling warns, both at once are refused."""
    used = [key for key in data if key in renamed]
    for key in used:
        if renamed[key] in data:
            raise place.error(f"give '{renamed[key]}' or its old spelling '{key}', not both")
        _logger.warning('%s', place.error(f"the key '{key}' is deprecated; write '{renamed[key]}'"))
    return {renamed.get(key, key): value for key, value in data.items()} if used else data


def _check_leaf(value: object, kind: object, place: _Place) -> object:
    candidates = [value]
    if isinstance(value, float) and value.is_integer():
        candidates.append(int(value))
    for candidate in candidates:
        try:
            return msgspec.convert(candidate, kind)
        except msgspec.ValidationError:
            continue
    raise place.error(f'expected {describe_kind(kind)}, got {_got(value)}{_hint(value, kind)}')


def _check_default_kind(value: object, default: object, where: str) -> None:
    """Raises InputError if the type of a value contradicts the default; a list may replace a number, and vice versa."""
    if value is None:
        return  # as for any argument that may be left out
    if isinstance(default, bool):
        wrong, expected = not isinstance(value, bool), 'true or false'
    elif isinstance(default, int | float):
        wrong, expected = isinstance(value, bool | str | dict), 'a number'
    elif isinstance(default, str):
        wrong, expected = not isinstance(value, str), 'text'
    else:
        return
    if wrong:
        raise InputError(f'{where}: expected {expected}, such as the default {default}, got {_got(value)}')


def describe_kind(kind: object) -> str:
    """Description of a kind of value for messages, such as 'a whole number of at least 1'."""
    if get_origin(kind) is Annotated:
        bare, meta = get_args(kind)
        return meta.description or describe_kind(bare) + _bounds(meta)
    origin, parts = get_origin(kind), get_args(kind)
    if origin in {Union, types.UnionType}:
        return ' or '.join(describe_kind(arm) for arm in parts if arm is not msgspec.UnsetType)
    if origin is Literal:
        choices = ', '.join(f"'{choice}'" if isinstance(choice, str) else str(choice) for choice in parts)
        return f'one of {choices}' if len(parts) > 1 else choices
    if origin in {list, tuple}:
        return f'a list{f" of {len(parts)}" if origin is tuple else ""}, each entry {describe_kind(parts[0])}'
    words: dict[object, str] = {
        bool: 'true or false',
        int: 'a whole number',
        float: 'a number',
        str: 'text',
        type(None): 'nothing (~)',
    }
    return words.get(kind, 'a mapping')


def _bounds(meta: msgspec.Meta) -> str:
    low = f'of at least {meta.ge}' if meta.ge is not None else f'above {meta.gt}' if meta.gt is not None else ''
    high = f'at most {meta.le}' if meta.le is not None else f'below {meta.lt}' if meta.lt is not None else ''
    length = 'that is not empty' if meta.min_length else ''
    words = ' and '.join(word for word in (low, high, length) if word)
    return f' {words}' if words else ''


def _got(value: object) -> str:
    """The given value for a message, shortened."""
    if value is None:
        return 'nothing'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return 'a mapping'
    text = repr(value) if len(repr(value)) <= 60 else f'{repr(value)[:57]}...'
    return f'the text {text}' if isinstance(value, str) else f'the list {text}' if isinstance(value, list) else text


def _hint(value: object, kind: object) -> str:
    """The remedy if text was given for a number."""
    if not isinstance(value, str) or not _accepts_number(kind):
        return ''
    match = _EXPONENT.fullmatch(value.strip())
    if match:
        whole, fraction, sign, exponent = match.groups()
        return f'; write {whole}.{fraction or 0}e{sign or "+"}{exponent} or !!float {value.strip()}'
    try:
        float(value)
    except ValueError:
        return ''
    return '; write it without quotes'


def _accepts_number(kind: object) -> bool:
    parts: Sequence[object] = get_args(kind)
    return kind in {int, float} or any(_accepts_number(part) for part in parts if not isinstance(part, msgspec.Meta))
