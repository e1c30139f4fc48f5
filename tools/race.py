"""Trains networks for the same minutes and compares them: `python tools/race.py plan`, then `run` (docs/race.md)."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from dasr_arch import InputError
from dasr_arch.backends.precision import choose_precision
from dasr_arch.benchmark.environment import describe_environment, now
from dasr_cli.main import run_guarded
from race.cores import list_cores
from race.evaluation import run_probes, run_tests
from race.options import Race, read_race
from race.plan import PRECISION_KEY, make_plan, read_plan, write_plan
from race.report import write_race_report
from race.scheduler import run_trainings
from race.state import LOCK_NAME, STATE_NAME, check_plan, has_learned, lock_race, read_state
from race.timing import MeasureSettings, measure_race, run_workers

QUIET_LOAD = 0.3  # of the cores; above this load timing is disturbed by other programs
PLAN_NAME = 'plan.json'


def main(argv: Sequence[str] | None = None) -> int:
    """Reads the arguments and works; 1 if a training or a test failed, 2 for bad input, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(description='Train networks for the same minutes and compare them.')
    commands = parser.add_subparsers(dest='command', required=True)
    plan = _add_command(commands, 'plan', 'measure iterations and write the numbers that fit into the minutes')
    plan.add_argument('--minutes', type=float, help="budget of a training, on all cores (the race file's)")
    plan.add_argument('--jobs', type=int, nargs='+', default=None, help='trainings at once (1, and one on each core)')
    plan.add_argument('--rounds', type=int, default=3, help='rounds of measurements (3)')
    plan.add_argument('--steps', type=int, default=5, help='timed iterations of every stage in a round (5)')
    run = _add_command(commands, 'run', 'run or resume the trainings, then the tests and the report')
    run.add_argument('--jobs', type=int, default=1, help='trainings at once, each on its own cores (1)')
    run.add_argument(
        '--gpu',
        type=int,
        default=0,
        metavar='N',
        help='train on one GPU, N at once, for the planned iterations (0)',
    )
    run.add_argument(
        '--only', nargs='+', default=[], metavar='TRAINING', help='only these trainings, and those they start from'
    )
    run.add_argument('--no-tests', action='store_true', help='run no tests and probes')
    run.add_argument('--set', action='append', default=[], metavar='KEY=VALUE', help='override a test option')
    _add_command(commands, 'report', 'write race.md again from the stored results')
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format='%(asctime)s %(message)s', datefmt='%H:%M:%S')
    work = {'plan': _plan, 'run': _run, 'report': _report}[args.command]
    return run_guarded(lambda: work(args))


def _add_command(
    commands: 'argparse._SubParsersAction[argparse.ArgumentParser]', name: str, text: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text)
    parser.add_argument('race', nargs='?', type=Path, default=Path('options/race/race.yml'), help='race file')
    parser.add_argument('--name', help='replaces the name of the race and of its folders')
    return parser


def _plan(args: argparse.Namespace) -> int:
    race = read_race(args.race, args.name, args.minutes)
    state = read_state(race.folder / STATE_NAME)
    if state is not None and any(has_learned(race, name, one) for name, one in state.trainings.items()):
        raise InputError(f'{race.folder}: its trainings have begun; go on with their plan, or give a new --name')
    cores = list_cores()
    jobs = args.jobs or sorted({1, len(cores)})
    load = os.getloadavg()[0] if hasattr(os, 'getloadavg') else 0.0
    if load > QUIET_LOAD * len(cores):
        print(
            f'warning: other programs use {load:.1f} of {len(cores)} cores; iterations will seem slower than they are'
        )
    if args.rounds < 1 or args.steps < 1:
        raise InputError(f'--rounds and --steps: expected 1 or more, got {args.rounds} and {args.steps}')
    stages = measure_race(race, MeasureSettings(jobs, args.rounds, args.steps, cores), run_workers)
    device = torch.device('cpu')
    precision = 'bf16' if choose_precision('auto', device) == torch.bfloat16 else 'fp32'
    about = {'date': now(), **describe_environment(device), 'load before': round(load, 2), PRECISION_KEY: precision}
    plan = make_plan(race, stages, len(cores), about)
    write_plan(race.folder / PLAN_NAME, plan)
    for training in race.trainings:
        for at_once in jobs:
            seconds = ', '.join(f'{one.seconds[at_once]:.3f}' for one in stages[training.name])
            counts = ' + '.join(map(str, plan.iterations[training.name][at_once].values()))
            minutes = plan.budget(training, at_once)
            print(f'{training.name}, {at_once} at once: {seconds} s, {counts} iterations in {minutes:.1f} min')
    hours = sum(training.share for training in race.trainings) * race.minutes / 60
    print(f'{race.folder / PLAN_NAME}: {len(race.trainings)} trainings, {hours:.1f} hours of iterations')
    return 0


def _open(args: argparse.Namespace) -> Race:
    """The race with the minutes of its plan."""
    race = read_race(args.race, args.name)
    return replace(race, minutes=read_plan(race.folder / PLAN_NAME).minutes)


def _run(args: argparse.Namespace) -> int:
    whole = _open(args)
    plan = read_plan(whole.folder / PLAN_NAME)
    race = whole.select(args.only) if args.only else whole
    if args.gpu < 0:
        raise InputError(f'--gpu: expected a number of trainings at once, got {args.gpu}')
    state = run_trainings(race, plan, args.jobs, list_cores(), gpu_jobs=args.gpu)
    failures = sum(state.trainings[training.name].status == 'failed' for training in race.trainings)
    if not args.no_tests:
        # A test outlives a killed race and must not meet a second one.
        with lock_race(whole.folder / LOCK_NAME) as lock:
            failures += run_tests(whole, state, args.set, lock=lock)
            failures += run_probes(whole, state, lock=lock)
    print(write_race_report(whole, plan, state))
    return 1 if failures else 0


def _report(args: argparse.Namespace) -> int:
    race = _open(args)
    plan, state = read_plan(race.folder / PLAN_NAME), read_state(race.folder / STATE_NAME)
    if state is None:
        raise InputError(f'{race.folder}: nothing has been run yet; tools/race.py run comes first')
    check_plan(race, plan, state.jobs)
    print(write_race_report(race, plan, state))
    return 0


if __name__ == '__main__':
    sys.exit(main())
