"""Report of a race: minutes used, means over seeds, and links to the probes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dasr_arch._files import write_whole
from dasr_arch.benchmark.tables.formats import read_results
from dasr_arch.benchmark.tables.results_table import Record, build_tables, digits_of
from dasr_arch.pipelines.training_log import HISTORY_NAME, read_history
from race.evaluation import PROBES_NAME, list_trainings, name_test, read_networks
from race.options import Race, Training
from race.plan import Plan
from race.state import State


@dataclass(frozen=True)
class Spread:
    """Mean and range of one value over a group of trainings.

    Attributes:
        mean: over its trainings.
        low: the smallest.
        high: the largest.
        count: number of trainings.
    """

    mean: float
    low: float
    high: float
    count: int


Summary = dict[str, dict[str, dict[str, dict[str, Spread]]]]
"""Values by data set, group, column and metric."""


def minutes_used(race: Race, training: str) -> tuple[int, float]:
    """Iterations and minutes of a training, from its history.

    Args:
        race: the race.
        training: its name.

    Returns:
        Iterations and minutes; iterations that were repeated after a kill count once.
    """
    history = read_history(Path('experiments') / race.experiment(training) / HISTORY_NAME)
    done, seconds = 0, 0.0
    for line in history:
        if 'time' in line:
            seconds += (line['iter'] - done) * line['time']
            done = line['iter']
    return done, seconds / 60


def summarise(race: Race, record: Record, networks: Mapping[str, object]) -> Summary:
    """Means and spreads over the trainings of each group.

    Args:
        race: the race.
        record: content of a test's ``table.json``.
        networks: of the test file; their paths of weights name the training of each row.

    Returns:
        Values of the rows that use the weights of one training; averages are columns like others.
    """
    groups = {training.name: training.group for training in race.trainings}
    collected: dict[str, dict[str, dict[str, dict[str, list[float]]]]] = {}
    for table in build_tables(record):
        for row in table.rows:
            used = set() if row.source else list_trainings(race, networks.get(row.label, {}))
            if len(used) != 1 or not used <= groups.keys():
                continue
            group = collected.setdefault(table.dataset, {}).setdefault(groups[used.pop()], {})
            for column, values in row.values.items():
                for metric, value in values.items():
                    group.setdefault(column, {}).setdefault(metric, []).append(value)
    return {
        dataset: {
            group: {
                column: {metric: _spread(values) for metric, values in metrics.items()}
                for column, metrics in columns.items()
            }
            for group, columns in by_group.items()
        }
        for dataset, by_group in collected.items()
    }


def write_race_report(race: Race, plan: Plan, state: State) -> Path:
    """Writes ``race.md`` and ``race.json`` into the race's folder.

    Args:
        race: the race.
        plan: its plan.
        state: its state.

    Returns:
        The Markdown file.

    Raises:
        InputError: if a table of results cannot be read.
        OSError: if the folder cannot be written.
    """
    rows = [
        _describe_training(race, plan, state, training)
        for training in race.trainings
        if training.name in state.trainings
    ]
    summaries: dict[str, Summary] = {}
    records: dict[str, Record] = {}
    for path in race.tests:
        name = name_test(race, path)
        file = Path('results') / name / 'table.json'
        if file.is_file():
            records[name] = read_results(file)
            summaries[name] = summarise(race, records[name], read_networks(path))
    lines = [*_describe_budget(race, plan, state), *_format_trainings(rows)]
    for name, summary in summaries.items():
        lines += ['', f'Tables: `results/{name}/`, of which `comparison.html` shows images side by side.']
        if any(len(_members(race, group)) > 1 for groups in summary.values() for group in groups):
            lines += _format_summary(summary, records[name])
    lines += _list_probes(race)
    content = {
        'race': race.name,
        'minutes': race.minutes,
        'jobs': state.jobs,
        'plan': dict(plan.about),
        'trainings': rows,
        'summaries': {
            name: {
                d: {g: {c: {m: vars(s) for m, s in ms.items()} for c, ms in cs.items()} for g, cs in gs.items()}
                for d, gs in summary.items()
            }
            for name, summary in summaries.items()
        },
    }
    write_whole(race.folder / 'race.json', json.dumps(content, indent=1) + '\n')
    target = race.folder / 'race.md'
    write_whole(target, '\n'.join(lines) + '\n')
    return target


def _describe_training(race: Race, plan: Plan, state: State, training: Training) -> dict[str, Any]:
    name = training.name
    progress = state.trainings[name]
    planned = plan.iterations[name][state.jobs]
    done, minutes = minutes_used(race, name)
    return {
        'training': name,
        'options': str(training.options),
        'overrides': list(training.overrides),
        'status': progress.status,
        'reason': progress.reason,
        'seconds': {stage.name: stage.seconds[state.jobs] for stage in plan.stages[name]},
        'planned': dict(planned),
        'iterations': done,
        'budget_minutes': plan.budget(training, state.jobs),
        'minutes': minutes,
        'wall_minutes': progress.seconds / 60,
        'attempts': progress.attempts,
        'finished': progress.finished,
    }


def _describe_budget(race: Race, plan: Plan, state: State) -> list[str]:
    threads = plan.cores // state.jobs
    lines = [
        f'# {race.name}',
        '',
        f'{race.minutes:g} minutes of iterations on {plan.cores} cores for each. Validation and files stand '
        'outside the budget.',
    ]
    if state.jobs > 1:
        lines[-1] += (
            f' {state.jobs} ran at once, each in {threads} thread{"s" if threads > 1 else ""} on cores of its own and '
            f'for {state.jobs} times the minutes.'
        )
    facts = ', '.join(f'{key} {value}' for key, value in plan.about.items())
    lines += ['', f'Iterations were measured and planned with: {facts}.']
    return [*lines, *_describe_places(plan, state)]


def _describe_places(plan: Plan, state: State) -> list[str]:
    """The devices of the trainings, if they differ from the device of the plan."""
    by_place: dict[str, list[str]] = {}
    for name, progress in state.trainings.items():
        for place in dict.fromkeys(progress.places):
            by_place.setdefault(place, []).append(name)
    if not by_place.keys() - {str(plan.about.get('device'))}:
        return []
    if len(by_place) == 1:
        where = f'{next(iter(by_place))}'
    else:
        where = '; '.join(f'{place}: {", ".join(names)}' for place, names in by_place.items())
    return [
        '',
        f'They were carried out elsewhere: {where}. Numbers of iterations and the number format are those of the plan; '
        'minutes used are those of that place, and trainings at once share it.',
    ]


def _format_trainings(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        '',
        '| training | s per iteration | iterations | budget, min | used, min | wall time, min | status |',
        '| --- | ---: | ---: | ---: | ---: | ---: | --- |',
    ]
    for row in rows:
        seconds = ' / '.join(f'{value:.3f}' for value in row['seconds'].values())
        planned = ' + '.join(str(count) for count in row['planned'].values())
        count = planned if row['iterations'] == sum(row['planned'].values()) else f'{row["iterations"]} of {planned}'
        status = f'{row["status"]}: {row["reason"]}' if row['reason'] else row['status']
        if row['attempts'] > 1:
            status += f', {row["attempts"]} attempts'
        lines.append(
            f'| {row["training"]} | {seconds} | {count} | {row["budget_minutes"]:.1f} | {row["minutes"]:.1f} | '
            f'{row["wall_minutes"]:.1f} | {status.replace("|", "/")} |'
        )
    return lines


def _format_summary(summary: Summary, record: Record) -> list[str]:
    """Table of means, with largest minus smallest in brackets."""
    metric, options = next(iter(record['metrics'].items()))
    digits = digits_of(options['type'])
    lines = []
    for dataset, groups in summary.items():
        columns = list(dict.fromkeys(column for group in groups.values() for column in group))
        lines += ['', f'## {dataset}: {metric}, mean over trainings (largest minus smallest)', '']
        lines += ['| group | trainings | ' + ' | '.join(columns) + ' |', '| --- |' + ' ---: |' * (len(columns) + 1)]
        for group, values in groups.items():
            texts = []
            for column in columns:
                one = values.get(column, {}).get(metric)
                texts.append('-' if one is None else f'{one.mean:.{digits}f} ({one.high - one.low:.{digits}f})')
            count = max((ms[metric].count for ms in values.values() if metric in ms), default=0)
            lines.append(f'| {group} | {count} | ' + ' | '.join(texts) + ' |')
    return lines


def _list_probes(race: Race) -> list[str]:
    lines = []
    for name in race.probe.trainings if race.probe else ():
        if (race.folder / PROBES_NAME / name / 'report.md').is_file():
            lines.append(f'- [{name}]({PROBES_NAME}/{name}/report.md), [map]({PROBES_NAME}/{name}/map_1.svg)')
    return ['', '## Probes of the representation', '', *lines] if lines else []


def _members(race: Race, group: str) -> list[str]:
    return [training.name for training in race.trainings if training.group == group]


def _spread(values: Sequence[float]) -> Spread:
    return Spread(sum(values) / len(values), min(values), max(values), len(values))
