"""Writes docs/option_files.md, the tables of all keys of a training file, from the structures that check them.

The arguments of the networks come from the signatures and docstrings of their classes.
"""

import argparse
import inspect
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import get_args, get_origin, get_type_hints

import msgspec

from dasr_arch._registration import ARCH_REGISTRY, import_all
from dasr_arch.config import train_schema, zero_shot_schema
from dasr_arch.config.typed import describe_kind

TARGET = Path(__file__).resolve().parents[1] / 'docs' / 'option_files.md'
INTRODUCTION = """# Keys of a training file

`python tools/list_training_options.py` generates this page from `dasr_arch/config/train_schema.py` and
`zero_shot_schema.py`, which check every key before anything is created. Further keys of BasicSR's models and data sets
are passed on.

- Keys are written with their sections: `datasets.train.gt_size`. A key without default is required.
- The project's option files leave out a key that has its default, unless the paper states the value.
- `network_g`, `pixel_opt`, metrics and degradations also take the arguments of the class that `type` names. Those of
  our networks are [below](#network-dasr), those of degradations in [training.md](training.md#degradations).
"""
SECTIONS = (
    ('Top level', '', 'GeneralOptions'),
    ('Weights to start from', 'path.', 'PathOptions'),
    ('Training set `DegradationDataset`', 'datasets.train.', 'DegradationDatasetOptions'),
    ('Training set `LQDataset`', 'datasets.train.', 'LQDatasetOptions'),
    ('Validation set `DegradedTestDataset`', 'datasets.val_1.', 'DegradedTestDatasetOptions'),
    ('`DASRModel`', 'train.', 'DASRTrainOptions'),
    ('`SupervisedModel`', 'train.', 'SupervisedTrainOptions'),
    ('`IKCModel`', 'train.', 'IKCTrainOptions'),
    ('`MZSRModel`', 'train.', 'MZSRTrainOptions'),
    ("BasicSR's `SRGANModel` and `ESRGANModel`", 'train.', 'AdversarialTrainOptions'),
    ('A stage: `train.stage_1`, `train.stage_2`, `train.stage_3` or `train.schedule`', '', 'StageOptions'),
    ('Optimiser', 'train.optim_g.', 'OptimizerOptions'),
    ('Contrastive loss of `DASRModel`', 'train.contrast_opt.', 'ContrastOptions'),
    ('Degradation regression of `DASRModel`', 'train.code_opt.', 'CodeOptions'),
    ('Wiener filter loss of `DASRModel`', 'train.filter_opt.', 'FilterOptions'),
    ('Distillation of `DASRModel`', 'train.teacher_opt.', 'TeacherOptions'),
    ('Meta-training of `MZSRModel`', 'train.meta_opt.', 'MetaOptions'),
    ('Adaptation of `MZSRModel` in validation', 'train.adaptation.', 'AdaptationOptions'),
    ('Test-time training of `ZSSR`, in test files', 'networks.NAME.adapt.', 'ZSSROptions'),
    ('Test-time adaptation of `MZSR`, in test files', 'networks.NAME.adapt.', 'MZSROptions'),
    ('Validation', 'val.', 'ValOptions'),
    ('Log and checkpoints', 'logger.', 'LoggerOptions'),
    ('Several processes', 'dist_params.', 'DistributedOptions'),
)
NETWORKS = (  # those in one bracket have the same arguments
    ('DASR',),
    ('DASRW',),
    ('SRCNN',),
    ('SAN',),
    ('SRMDNF', 'SRMD'),
    ('UDVD',),
    ('SFTMD',),
    ('Predictor',),
    ('Corrector',),
    ('IKC',),
    ('ZSSR', 'MZSR'),
    ('DnCNN',),
)
COMMENTED_FIELD = r'^    (\w+): [^#\n]*(?:\(\n[^#\n]*)?  # (.*)$'  # a default in brackets is on a line of its own


def read_comments(kind: type[msgspec.Struct]) -> dict[str, str]:
    """Comments behind the fields of a structure and of those that it derives from."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if base.__module__ in (train_schema.__name__, zero_shot_schema.__name__):
            found |= dict(re.findall(COMMENTED_FIELD, inspect.getsource(base), flags=re.MULTILINE))
    return found


def describe_default(value: object) -> str:
    """The default as an option file writes it; empty for a required key."""
    if value is msgspec.UNSET:
        return 'may be absent'
    if value in (msgspec.NODEFAULT, inspect.Parameter.empty):
        return ''
    if isinstance(value, msgspec.Struct):
        return 'see its keys'
    words = {None: '~', True: 'true', False: 'false'}
    if value is None or isinstance(value, bool):
        return f'`{words[value]}`'
    return f'`{list(value) if isinstance(value, tuple) else value}`'


def describe_value(hint: object) -> str:
    """The kind of a value, without the marker of keys that may be absent."""
    parts = [part for part in get_args(hint) if part is not msgspec.UnsetType]
    if len(parts) == 1 and get_origin(hint) is not None and msgspec.UnsetType in get_args(hint):
        return describe_kind(parts[0])
    return describe_kind(hint)


def list_rows(prefix: str, kind: type[msgspec.Struct]) -> Iterator[str]:
    """One row of a table for each key."""
    hints, comments = get_type_hints(kind, include_extras=True), read_comments(kind)
    for field in msgspec.structs.fields(kind):
        default = field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default
        cells = (f'`{prefix}{field.name}`', describe_value(hints[field.name]), describe_default(default))
        yield f'| {" | ".join(cells)} | {comments.get(field.name, "")} |'


def read_arguments(network: type) -> dict[str, str]:
    """Descriptions of the arguments in the docstrings of a network and of the classes that it derives from."""
    found: dict[str, str] = {}
    for base in reversed(network.__mro__):
        arguments = re.search(
            r'^Args:\n(.*?)(?=^\S|\Z)', inspect.cleandoc(base.__doc__ or ''), re.DOTALL | re.MULTILINE
        )
        for name, text in re.findall(r'^    (\w+): (.*(?:\n {8}.*)*)', arguments[1] if arguments else '', re.MULTILINE):
            found[name] = re.sub(r':\w+:(?=`)', '', ' '.join(text.split()).replace('``', '`')).removesuffix('.')
    return found


def list_arguments(network: type, texts: Mapping[str, str]) -> Iterator[str]:
    """One row of a table for each argument of a network."""
    hints: Mapping[str, object] = get_type_hints(network.__init__)
    for name, parameter in list(inspect.signature(network).parameters.items()):
        arms = tuple(arm for arm in get_args(hints[name]) if get_origin(arm) is not os.PathLike)
        value = ' or '.join(map(describe_kind, arms)) if type(None) in arms else describe_kind(hints[name])
        yield f'| `{name}` | {value} | {describe_default(parameter.default)} | {texts[name]} |'


def render() -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    for title, prefix, name in SECTIONS:
        rows = '\n'.join(list_rows(prefix, getattr(zero_shot_schema, name, None) or getattr(train_schema, name)))
        parts.append(
            f'## {title}\n\n| Key | Value | Default | Meaning, unit, source |\n| --- | --- | --- | --- |\n{rows}\n'
        )
    import_all('dasr_arch.archs', '_arch')
    for names in NETWORKS:
        texts = read_arguments(ARCH_REGISTRY.get(names[0]))
        first, *others = (list(list_arguments(ARCH_REGISTRY.get(name), texts)) for name in names)
        assert all(rows == first for rows in others), names
        title, rows = 'Network ' + ' and '.join(f'`{name}`' for name in names), '\n'.join(first)
        parts.append(f'## {title}\n\n| Argument | Value | Default | Meaning |\n| --- | --- | --- | --- |\n{rows}\n')
    return '\n'.join(parts)


def main() -> int:
    """Writes the page."""
    argparse.ArgumentParser(description='Write docs/option_files.md.').parse_args()
    TARGET.write_text(render(), encoding='utf-8')
    return 0


if __name__ == '__main__':
    sys.exit(main())
