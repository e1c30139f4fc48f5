"""Training logger: log file, TensorBoard, a JSON history for reports, and a progress bar with the time left."""

import contextlib
import itertools
import json
import logging
from collections.abc import Mapping
from datetime import timedelta
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any

from basicsr.utils import get_env_info, get_root_logger, get_time_str
from tqdm import tqdm

HISTORY_NAME = 'history.jsonl'


class BarHandler(logging.StreamHandler[Any]):
    """Prints log lines above the progress bar instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Prints one line, if anybody still reads: Ctrl-C ends `| tee` first, and the state must be saved then."""
        with contextlib.suppress(OSError):
            tqdm.write(self.format(record), file=self.stream)


class BufferedLog:
    """BasicSR's logger, with lines buffered until the log file can be opened; other processes log errors alone.

    The folder is made after everything that can fail at the start.
    """

    def __init__(self, rank: int) -> None:
        self.logger = get_root_logger()
        for handler in list(self.logger.handlers):
            self.logger.removeHandler(handler)
        self.memory = MemoryHandler(10_000, flushLevel=logging.CRITICAL + 1)
        if rank == 0:
            self.logger.setLevel(logging.INFO)
            self._add(BarHandler())
            self._add(self.memory)
        else:
            self.logger.setLevel(logging.ERROR)

    def open_file(self, options: Mapping[str, Any]) -> None:
        """Starts the log file, with every line so far."""
        if options['rank'] != 0:
            return
        path = Path(options['path']['log']) / f'train_{options["name"]}_{get_time_str()}.log'
        file = logging.FileHandler(path, encoding='utf-8')
        self._add(file)
        self.logger.removeHandler(self.memory)
        self.memory.setTarget(file)
        self.memory.flush()
        file.emit(logging.LogRecord('environment', logging.INFO, '', 0, get_env_info(), None, None))

    def close(self) -> None:
        """Closes the file and removes all handlers."""
        for handler in list(self.logger.handlers):
            self.logger.removeHandler(handler)
            handler.close()

    def _add(self, handler: logging.Handler) -> None:
        handler.setFormatter(logging.Formatter('%(asctime)s %(levelname)s: %(message)s'))
        self.logger.addHandler(handler)


def read_history(path: Path) -> list[dict[str, Any]]:
    """The lines of a history; a last one that a crash cut off is left out."""
    if not path.is_file():
        return []
    out = []
    for line in path.read_text(encoding='utf-8').splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            out.append(json.loads(line))
    return out


class TrainingLog:
    """Log, TensorBoard, history and progress bar of a run after ``start`` iterations, in the first process alone.

    The history has one JSON object for each logged iteration and validation, in a file that reports read; lines of
    later iterations, from before a crash, are removed.
    """

    def __init__(self, options: Mapping[str, Any], start: int) -> None:
        self.total = options['train']['total_iter']
        self.board: Any = None
        self.history: Path | None = None
        self.bar: Any = None
        if options['rank'] != 0:
            return
        if options['logger'].get('use_tb_logger'):
            self.board = open_board(Path(options['root_path']) / 'tb_logger' / options['name'], start)
        self.history = Path(options['path']['log']) / HISTORY_NAME
        kept = [line for line in read_history(self.history) if line['iter'] <= start]
        self.history.write_text(''.join(json.dumps(line) + '\n' for line in kept), encoding='utf-8')
        self.name = options['name']
        sections = [section for key, section in sorted(options['train'].items()) if key.startswith('stage_')]
        lengths = [stage['total_iter'] for stage in sections if isinstance(stage, dict) and 'total_iter' in stage]
        self.boundaries = list(itertools.accumulate(lengths))[:-1]
        # On a terminal only; a log file has the lines of the log.
        text = self._describe(start + 1)
        self.bar = tqdm(total=self.total, initial=start, desc=text, unit='it', disable=None, smoothing=0.05)

    def step(self) -> None:
        """Counts one finished iteration."""
        if self.bar is not None:
            self.bar.update()
            if self.bar.n in self.boundaries and self.bar.n < self.total:
                self.bar.set_description(self._describe(self.bar.n + 1), refresh=False)

    def log(self, iteration: int, values: Mapping[str, float]) -> None:
        """Writes the losses, the learning rate and the times of an iteration."""
        if self.history is None:
            return
        losses = {key: value for key, value in values.items() if key.startswith('l_')}
        remaining = timedelta(seconds=int(values['time'] * (self.total - iteration)))
        parts = ' '.join(f'{key} {value:.4f}' for key, value in losses.items())
        get_root_logger().info(
            f'iteration {iteration}/{self.total}, epoch {values["epoch"]:.0f}, lr {values["lr"]:.3e}, '
            f'{values["time"]:.3f} s ({values["data_time"]:.3f} waiting for data), left {remaining}: {parts}'
        )
        shown = {key.removeprefix('l_'): f'{value:.3f}' for key, value in losses.items()}
        self.bar.set_postfix(shown, refresh=False)
        self._write_history(iteration, values)
        self._write_board(iteration, {('losses/' + key if key in losses else key): v for key, v in values.items()})

    def log_validation(self, iteration: int, results: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
        """Writes metrics by data set and degradation."""
        if self.history is None:
            return
        for dataset, rows in results.items():
            for label, metrics in rows.items():
                text = ', '.join(f'{name} {value:.4f}' for name, value in metrics.items())
                get_root_logger().info(f'validation {iteration}, {dataset}, {label}: {text}')
                self._write_board(iteration, {f'metrics/{dataset}/{label}/{k}': v for k, v in metrics.items()})
        self._write_history(iteration, {'validation': results})

    def close(self) -> None:
        """Closes the progress bar and TensorBoard's file."""
        if self.bar is not None:
            self.bar.close()
        if self.board is not None:
            self.board.close()

    def _describe(self, iteration: int) -> str:
        """The run's name, and the stage of an iteration if there are several."""
        if not self.boundaries:
            return str(self.name)
        return f'{self.name}, stage {1 + sum(boundary < iteration for boundary in self.boundaries)}'

    def _write_history(self, iteration: int, values: Mapping[str, object]) -> None:
        assert self.history is not None
        with self.history.open('a', encoding='utf-8') as file:
            file.write(json.dumps({'iter': iteration, **values}) + '\n')

    def _write_board(self, iteration: int, values: Mapping[str, float]) -> None:
        if self.board is not None:
            for key, value in values.items():
                self.board.add_scalar(key, value, iteration)


def open_board(folder: Path, start: int) -> Any:
    """TensorBoard's writer; events of iterations after ``start``, from before a crash, are hidden."""
    from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 (optional, slow to import)

    return SummaryWriter(str(folder), purge_step=start + 1 if start else None)
