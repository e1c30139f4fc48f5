"""Plan of a race: the number of iterations of each training that fit into its budget on this machine.

A budget is minutes of iterations on all cores, without start, validation and writing files. When N trainings run at
once, they share the cores and each has N times the minutes, so that all get the same core time.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dasr_arch._errors import InputError
from dasr_arch._files import write_whole
from dasr_arch.config.train_schema import MetaOptions, StageOptions
from dasr_arch.config.typed import convert, section
from dasr_arch.config.yaml_reader import read_yaml
from race.options import Race, Training

STAGES = ('schedule', 'stage_1', 'stage_2', 'stage_3')
WARMUP_SHARE = 0.1  # of a stage, at most
EMA_REACH = 5  # the EMA's time constant is at most a fifth of the last stage
REPORTS = 100  # in a training
CHECKPOINTS, VALIDATIONS = 30, 5
GPU_CHECKPOINTS, GPU_VALIDATIONS = 5, 2  # a training takes minutes on a GPU
PRECISION_KEY = 'precision'  # in Plan.about


@dataclass(frozen=True)
class StageTime:
    """One stage of a training.

    Attributes:
        name: its key in the train section.
        weight: its iterations in the training file; the plan keeps the proportions of stages.
        seconds: of an iteration, by the number of trainings at once.
    """

    name: str
    weight: int
    seconds: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """Measured times and the iterations derived from them.

    Attributes:
        race: name of the race.
        minutes: the budget.
        cores: of the machine.
        stages: by training.
        iterations: of every stage, by training and number of trainings at once.
        about: machine, versions, date, load.
    """

    race: str
    minutes: float
    cores: int
    stages: Mapping[str, Sequence[StageTime]]
    iterations: Mapping[str, Mapping[int, Mapping[str, int]]]
    about: Mapping[str, object] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Hash of the plan's numbers of iterations."""
        content = json.dumps([self.race, float(self.minutes), self.cores, _plain_iterations(self)], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def budget(self, training: Training, jobs: int) -> float:
        """Budget of a training in minutes when ``jobs`` run at once."""
        return self.minutes * training.share * jobs


def list_stages(training: Training) -> list[StageTime]:
    """The stages of a training file that have iterations.

    Args:
        training: the training.

    Returns:
        Stages in order, without times.

    Raises:
        InputError: if the file is wrong, or a stage does not end with its budget.
    """
    found = []
    for name, stage in _read_stages(training).items():
        if stage.schedule != 'cosine':
            raise InputError(
                f'{training.options}: train.{name}.schedule: expected cosine, which ends with the budget, got '
                f"'{stage.schedule}'"
            )
        found.append(StageTime(name, stage.total_iter))
    if not found:
        raise InputError(f'{training.options}: a race needs a model of ours with train.schedule or train.stage_1')
    return found


def fit_iterations(stages: Sequence[StageTime], minutes: float, jobs: int) -> dict[str, int]:
    """The iterations of all stages that fit into a budget, in the proportions of the file.

    Args:
        stages: with times for ``jobs``.
        minutes: the budget of this training.
        jobs: trainings at once.

    Returns:
        Iterations by stage, 1 at least, rounded down.
    """
    whole = sum(stage.weight * stage.seconds[jobs] for stage in stages)
    factor = minutes * 60 / whole
    return {stage.name: max(1, int(stage.weight * factor + 1e-9)) for stage in stages}


def make_plan(race: Race, stages: Mapping[str, Sequence[StageTime]], cores: int, about: Mapping[str, object]) -> Plan:
    """A plan from measured times.

    Args:
        race: the race.
        stages: of every training, with times.
        cores: of the machine.
        about: machine, versions, date, load.

    Returns:
        The plan.
    """
    iterations = {
        training.name: {
            jobs: fit_iterations(stages[training.name], race.minutes * training.share * jobs, jobs)
            for jobs in stages[training.name][0].seconds
        }
        for training in race.trainings
    }
    return Plan(race.name, race.minutes, cores, stages, iterations, about)


def digest_options(training: Training) -> str:
    """Hash of an option file with the training's own overrides; comments do not count."""
    content = json.dumps(_read_file(training), sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def list_overrides(
    race: Race, training: Training, iterations: Mapping[str, int], precision: str | None = None, *, on_gpu: bool = False
) -> list[str]:
    """Overrides that fit a training file to its budget.

    Args:
        race: the race.
        training: the training.
        iterations: by stage.
        precision: replaces ``precision: auto``, the default, so that every machine trains in the precision of the
            plan; MZSR's meta-training has float32 alone.
        on_gpu: trains on one GPU instead of the CPU; float32 then uses TF32 in convolutions, PyTorch's default.

    Returns:
        `key=value`: the training's own, the device, the name, the iterations, and options that depend on these: a
        warm-up of at most a tenth of a stage, an EMA time constant of at most a fifth of the last stage, MZSR's
        annealing in proportion, and the frequencies of reports, checkpoints and validations.

    Raises:
        InputError: if the file is wrong.
    """
    options, stages = _read_file(training), _read_stages(training)
    train, total = section(options, 'train', str(training.options)), sum(iterations.values())
    out = [*training.overrides, f'num_gpu={int(on_gpu)}', f'name={race.experiment(training.name)}']
    out.append(f'train.total_iter={total}')
    if precision is not None and 'meta_opt' not in train and train.get('precision', 'auto') == 'auto':
        out.append(f'train.precision={"tf32" if on_gpu and precision == "fp32" else precision}')
    for name, count in iterations.items():
        warmup = min(stages[name].warmup_iter, int(count * WARMUP_SHARE))
        out += [f'train.{name}.total_iter={count}', f'train.{name}.warmup_iter={warmup}']
    decay = train.get('ema_decay')
    if isinstance(decay, float):
        last = list(iterations.values())[-1]
        out.append(f'train.ema_decay={min(decay, max(0.0, 1 - EMA_REACH / last)):.6g}')
    if 'meta_opt' in train:
        meta = convert(section(train, 'meta_opt', str(training.options)), MetaOptions, str(training.options))
        whole = sum(stage.total_iter for stage in stages.values())
        out.append(f'train.meta_opt.anneal_iter={max(1, round(meta.anneal_iter * total / whole))}')
    if training.after is not None:
        out.append(f'path.pretrain_network_g={race.weights(training.after)}')
    checkpoints, validations = (GPU_CHECKPOINTS, GPU_VALIDATIONS) if on_gpu else (CHECKPOINTS, VALIDATIONS)
    out.append(f'logger.print_freq={min(100, max(1, total // REPORTS))}')
    out.append(f'logger.save_checkpoint_freq={max(1, total // checkpoints)}')
    if options.get('val'):
        out.append(f'val.val_freq={max(1, total // validations)}')
    return out


def write_plan(path: Path, plan: Plan) -> None:
    """Writes a plan as JSON.

    Raises:
        OSError: if the file cannot be written.
    """
    content = {
        'race': plan.race,
        'minutes': plan.minutes,
        'cores': plan.cores,
        'about': dict(plan.about),
        'trainings': {
            name: {
                'stages': [
                    {'name': one.name, 'weight': one.weight, 'seconds': {str(k): v for k, v in one.seconds.items()}}
                    for one in stages
                ],
                'iterations': _plain_iterations(plan)[name],
            }
            for name, stages in plan.stages.items()
        },
    }
    write_whole(path, json.dumps(content, indent=1) + '\n')


def read_plan(path: Path) -> Plan:
    """Reads a plan; numbers of iterations may have been edited by hand.

    Raises:
        InputError: if the file is missing or is no plan.
    """
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        stages, iterations = {}, {}
        for name, entry in content['trainings'].items():
            stages[name] = [
                StageTime(one['name'], int(one['weight']), {int(k): float(v) for k, v in one['seconds'].items()})
                for one in entry['stages']
            ]
            iterations[name] = {
                int(jobs): {stage: int(count) for stage, count in counts.items()}
                for jobs, counts in entry['iterations'].items()
            }
        return Plan(
            content['race'], float(content['minutes']), int(content['cores']), stages, iterations, content['about']
        )
    except FileNotFoundError as error:
        raise InputError(f"the plan '{path}' does not exist; make it with tools/race.py plan") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"'{path}' is no plan of a race; make it anew with tools/race.py plan") from error


def _read_file(training: Training) -> dict[str, object]:
    """The unchecked training file; options are checked where they are used."""
    return read_yaml(training.options, training.overrides)


def _read_stages(training: Training) -> dict[str, StageOptions]:
    """The stages of a training file that have iterations, by their keys."""
    where = str(training.options)
    train = section(_read_file(training), 'train', where)
    stages = {
        name: convert(section(train, name, where), StageOptions, where, f'train.{name}')
        for name in STAGES
        if name in train
    }
    return {name: stage for name, stage in stages.items() if stage.total_iter}


def _plain_iterations(plan: Plan) -> dict[str, dict[str, dict[str, int]]]:
    return {
        name: {str(jobs): dict(counts) for jobs, counts in by_jobs.items()} for name, by_jobs in plan.iterations.items()
    }
