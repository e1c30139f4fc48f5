"""Race files: trainings that get the same minutes, and the tests that follow them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from msgspec import Meta, field

from dasr_arch._errors import InputError, suggest
from dasr_arch.config.train_schema import Name, Options, Positive, Seed
from dasr_arch.config.typed import convert
from dasr_arch.config.yaml_reader import read_yaml

Text = Annotated[str, Meta(min_length=1)]


class TrainingEntry(Options, kw_only=True, frozen=True):
    """One training of a race file."""

    options: Text  # a training file
    share: Annotated[float, Meta(gt=0, le=1)] = 1.0  # of the race's minutes
    after: str | None = None  # training whose weights it starts from
    like: str | None = None  # training whose measured time per iteration it takes over
    set: list[str] = field(default_factory=list)  # key=value, laid over the file
    seeds: Annotated[list[Seed], Meta(min_length=1)] | None = None  # one training per seed
    group: Text | None = None  # the summary averages over a group; the entry's name, if absent


class ProbeEntry(Options, kw_only=True, frozen=True):
    """Linear probes of the representations of some trainings."""

    renamed: ClassVar[dict[str, str]] = {'pictures': 'images'}

    trainings: Annotated[list[str], Meta(min_length=1)]
    images: Text  # HR images for fitting the probe
    test: Text  # HR images for testing it
    limit: Annotated[int, Meta(ge=1)] | None = None  # number of images for fitting; all if None


class RaceFile(Options, kw_only=True, frozen=True):
    """A race file."""

    name: Name
    minutes: Positive
    trainings: dict[str, TrainingEntry]
    tests: list[Text] = field(default_factory=list)  # test files; their networks name the weights of the trainings
    probe: ProbeEntry | None = None

    def __post_init__(self) -> None:
        """Checks that there is at least one training, and that names are valid folder names."""
        if not self.trainings:
            raise ValueError('trainings: expected at least one, got none')
        for label in self.trainings:
            if not re.fullmatch(r'[\w.+-]+', label):
                raise ValueError(f"trainings: a name consists of letters, digits and _ . + -, got '{label}'")


@dataclass(frozen=True)
class Training:
    """One training with one seed.

    Attributes:
        name: unique in the race.
        options: the training file.
        share: of the race's minutes.
        after: name of the training whose weights it starts from, or None.
        like: name of the training whose measured time per iteration it takes over, or None.
        overrides: `key=value`, laid over the file.
        group: the summary averages over the trainings of a group.
    """

    name: str
    options: Path
    share: float = 1.0
    after: str | None = None
    like: str | None = None
    overrides: tuple[str, ...] = ()
    group: str = ''


@dataclass(frozen=True)
class Race:
    """A validated race.

    Attributes:
        name: of its folder ``results/<name>``, and the beginning of its experiments' names.
        file_name: name in the race file; the paths of weights in test files start with it.
        minutes: of training on all cores, for a training with the share 1.
        trainings: in order; a training comes after the one whose weights it starts from.
        tests: test files.
        probe: probes of representations, or None.
    """

    name: str
    file_name: str
    minutes: float
    trainings: tuple[Training, ...]
    tests: tuple[Path, ...] = ()
    probe: ProbeEntry | None = None

    @property
    def folder(self) -> Path:
        """Folder of plan, state, logs and reports, relative to the current folder."""
        return Path('results') / self.name

    def experiment(self, training: str) -> str:
        """The name of a training's folder below ``experiments/``."""
        return f'{self.name}_{training}'

    def experiment_folder(self, training: str) -> Path:
        """Folder of a training's files, relative to the current folder."""
        return Path('experiments') / self.experiment(training)

    def weights(self, training: str) -> Path:
        """File of a training's final weights."""
        return self.experiment_folder(training) / 'models' / 'net_g_latest.pth'

    def select(self, names: Sequence[str]) -> 'Race':
        """The race reduced to some trainings and those that they start from.

        Raises:
            InputError: if there is no such training.
        """
        by_name = {training.name: training for training in self.trainings}
        wanted: set[str] = set()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name not in by_name:
                raise InputError(f"no training is called '{name}'{suggest(name, by_name)}")
            wanted.add(name)
            before = by_name[name].after
            if before is not None:
                waiting.append(before)
        chosen = tuple(training for training in self.trainings if training.name in wanted)
        return Race(self.name, self.file_name, self.minutes, chosen, self.tests, self.probe)


def read_race(path: Path, name: str | None = None, minutes: float | None = None) -> Race:
    """Reads a race file.

    Args:
        path: the file.
        name: replaces the file's, for a second race beside the first.
        minutes: replaces the file's.

    Returns:
        The race; the training files that it names exist, but their contents are not checked.

    Raises:
        InputError: if the file is wrong.
    """
    where = str(path)
    data = read_yaml(path)
    given: Mapping[str, object] = {'name': name, 'minutes': minutes}
    data |= {key: value for key, value in given.items() if value is not None}
    checked = convert(data, RaceFile, where)
    trainings: dict[str, Training] = {}
    for label, entry in checked.trainings.items():
        if entry.after is not None and entry.after not in trainings:
            hint = suggest(entry.after, trainings)
            raise InputError(f"{where}: trainings.{label}.after: no training before it is called '{entry.after}'{hint}")
        like = _find_alike(entry, checked.trainings, trainings, f'{where}: trainings.{label}.like')
        for training in _expand(label, entry, like):
            if training.name in trainings:
                raise InputError(f"{where}: trainings: '{training.name}' comes twice; rename one of them")
            trainings[training.name] = training
    tests = tuple(map(Path, checked.tests))
    for file in (*(training.options for training in trainings.values()), *tests):
        if not file.is_file():
            raise InputError(f"{where}: '{file}' does not exist; paths start at the current folder")
    for label in checked.probe.trainings if checked.probe else ():
        if label not in trainings:
            raise InputError(f"{where}: probe.trainings: no training is called '{label}'{suggest(label, trainings)}")
    file_name = str(read_yaml(path).get('name', checked.name))
    return Race(checked.name, file_name, checked.minutes, tuple(trainings.values()), tests, checked.probe)


def _find_alike(
    entry: TrainingEntry, entries: Mapping[str, TrainingEntry], before: Mapping[str, Training], where: str
) -> str | None:
    """The measured training that an entry takes its time per iteration from."""
    if entry.like is None:
        return None
    seeds = entries[entry.like].seeds if entry.like in entries else None
    name = f'{entry.like}_seed_{seeds[0]}' if seeds else entry.like
    if name not in before:
        raise InputError(f"{where}: no training before it is called '{entry.like}'{suggest(entry.like, entries)}")
    return before[name].like or name


def _expand(label: str, entry: TrainingEntry, like: str | None) -> list[Training]:
    """The trainings of an entry: one, or one per seed; only the first seed is measured."""
    path, group = Path(entry.options), entry.group or label
    if entry.seeds is None:
        return [Training(label, path, entry.share, entry.after, like, tuple(entry.set), group)]
    names = [f'{label}_seed_{seed}' for seed in entry.seeds]
    return [
        Training(
            name,
            path,
            entry.share,
            entry.after,
            like or (names[0] if name != names[0] else None),
            (*entry.set, f'manual_seed={seed}'),
            group,
        )
        for name, seed in zip(names, entry.seeds, strict=True)
    ]
