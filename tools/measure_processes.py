"""Compares processes of one thread with threads of one process: `python tools/measure_processes.py -opt FILE`.

Three trainings of an option file take steps in turn, so that all meet the same disturbances of the machine: one process
of one thread with a share of the batch, one process with all threads, and processes of one thread that share the batch.
Times include loading and degrading of the images. Nothing is written; prints a table in Markdown.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import torch

from dasr_arch.config.train_checks import load_training_options
from dasr_arch.pipelines.cpu_processes import Choice, joined_processes
from dasr_arch.pipelines.dataloaders import build_training_stream
from dasr_arch.pipelines.training import build_model, seed_everything
from dasr_cli.main import run_guarded

CASES = ('one thread', 'threads', 'processes')


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description='Compare processes of one thread with threads of one process.')
    parser.add_argument('-opt', required=True, metavar='FILE', help='option file')
    parser.add_argument('--set', action='append', default=[], metavar='KEY=VALUE', help='override a value of the file')
    parser.add_argument('--stage', type=int, default=2, help='stage of the training (2)')
    parser.add_argument('--processes', type=int, default=2, help='number of processes and of threads (2)')
    parser.add_argument('--rounds', type=int, default=9, help='turns of each training (9)')
    parser.add_argument('--steps', type=int, default=4, help='steps in a turn (4)')
    parser.add_argument('--case', choices=CASES, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.case:
        return run_case(args)
    with tempfile.TemporaryDirectory() as folder:
        load_training_options(args.opt, args.set, root=folder)  # one line for all if it is wrong
    words = sys.argv[1:] if argv is None else argv
    command = [sys.executable, __file__, *words]
    pipes: dict[str, Any] = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE, 'text': True}
    trainings = {case: subprocess.Popen([*command, '--case', case], **pipes) for case in CASES}
    seconds: dict[str, list[float]] = {case: [] for case in CASES}
    for turn in range(args.rounds + 1):
        for case, training in trainings.items():
            print(args.steps, file=training.stdin, flush=True)
            answer = training.stdout.readline()
            if not answer:  # its process has said why
                return 2
            if turn:  # the first warms up
                seconds[case].append(float(answer) / args.steps)
    for training in trainings.values():
        training.communicate()
    print_table(seconds, args.processes)
    return 0


def print_table(seconds: dict[str, list[float]], processes: int) -> None:
    """Medians over turns, and medians of the ratios within turns."""

    def ratio(first: str, second: str) -> float:
        return statistics.median(a / b for a, b in zip(seconds[first], seconds[second], strict=True))

    print(f'| | seconds a step, of {processes} shares | patches a second, ratio to threads |')
    print('| --- | ---: | ---: |')
    print(f'| one thread, one share | {statistics.median(seconds["one thread"]):.3f} | |')
    print(f'| {processes} threads | {statistics.median(seconds["threads"]):.3f} | 1.00 |')
    middle = statistics.median(seconds['processes'])
    print(f'| {processes} processes | {middle:.3f} | {ratio("threads", "processes"):.2f} |')
    print(f'\nWeak scaling, one thread against {processes} processes: {ratio("one thread", "processes"):.0%}')


def run_case(args: argparse.Namespace) -> int:
    """Trains as lines of the standard input ask, each with a number of steps, and prints their seconds."""
    overrides = [*args.set, 'num_gpu=0', 'logger.use_tb_logger=false']
    with tempfile.TemporaryDirectory() as folder:
        options: dict[str, Any] = load_training_options(args.opt, overrides, root=folder)
        options['stage'] = args.stage
        if args.case == 'processes':
            with joined_processes(take_steps, options, Choice(args.processes, 1, '')) as own:
                take_steps(own)
            return 0
        torch.set_num_threads(args.processes if args.case == 'threads' else 1)
        if args.case == 'one thread':
            options['datasets']['train']['batch_size_per_gpu'] //= args.processes
        take_steps(options)
    return 0


def take_steps(options: dict[str, Any]) -> None:
    """Takes the steps of one process; the first one reads their number for all."""
    seed_everything(options['manual_seed'])
    stream, _ = build_training_stream(options, 0)
    model = build_model(options)
    done = sum(stage.total_iter for stage in model.settings.stages[: options['stage'] - 1])
    while True:
        line = sys.stdin.readline() if options['rank'] == 0 else ''
        steps = torch.tensor(int(line or 0))
        if options['dist']:
            torch.distributed.broadcast(steps, 0)
        if steps == 0:
            return
        began = time.monotonic()
        for _ in range(int(steps)):
            done += 1
            model.update_learning_rate(done)
            model.feed_data(next(stream))
            model.optimize_parameters(done)
        if options['rank'] == 0:
            print(time.monotonic() - began, flush=True)


if __name__ == '__main__':
    sys.exit(run_guarded(main))
