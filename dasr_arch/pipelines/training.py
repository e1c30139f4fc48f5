"""Training: option file in, weights out.

BasicSR's own loop is not used, because it cannot continue exactly where it stopped, renames earlier experiments before
the new one is known to start, and reports success without training if there are fewer images than a batch. Its models,
data sets, networks, losses and metrics are used as they are, and ours work in its loop as well.
"""

import os
import random
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.error import URLError

import numpy as np
import torch
import torch.distributed
from basicsr.models import build_model
from basicsr.utils import get_root_logger
from torch.utils.data import DataLoader

from dasr_arch._compat import initialise_distributed
from dasr_arch._errors import DivergedError, InputError
from dasr_arch._memory import keep_freed_memory, return_freed_memory
from dasr_arch.config.train_checks import Launcher, load_training_options
from dasr_arch.data.sampling import mix_seeds
from dasr_arch.models.supervised_model import SupervisedModel
from dasr_arch.pipelines.checkpoints import find_state, list_states, prepare_folders, prune, restore_state, write_state
from dasr_arch.pipelines.cpu_processes import agree, all_cores, choose_processes, joined_processes
from dasr_arch.pipelines.dataloaders import STOP_SIGNALS, build_training_stream, build_validation_loaders
from dasr_arch.pipelines.divergence import check_finite, share
from dasr_arch.pipelines.training_log import BufferedLog, TrainingLog
from dasr_arch.pipelines.validation import BestResult, validate


def train(
    path: Path,
    overrides: Sequence[str] = (),
    *,
    launcher: Launcher = 'none',
    auto_resume: bool = False,
    smoke: bool = False,
) -> int:
    """Trains, from the option file to the summary; returns 0. The arguments are those of `load_training_options`.

    With the launcher 'auto', processes of torchrun train together, and else a CPU trains by several processes where
    that is faster (:mod:`.cpu_processes`); a script then needs the guard ``if __name__ == '__main__'``.

    InputError if the options, data or weights are wrong; earlier experiments stay in place then. OSError if results
    cannot be written, or a process was killed. DivergedError if losses or weights are no longer finite; the last finite
    state stays.
    """
    if launcher == 'auto' and 'TORCHELASTIC_RUN_ID' in os.environ:
        launcher = 'pytorch'
    options: dict[str, Any] = load_training_options(
        path, overrides, launcher=launcher, auto_resume=auto_resume, smoke=smoke
    )
    if options['dist']:
        initialise_distributed(**(options.get('dist_params') or {}), on_gpu=options['num_gpu'] > 0)
    try:
        if launcher != 'auto' or options['num_gpu'] > 0:
            train_one(options)
            return 0
        choice = choose_processes(options)
        if choice.processes == 1:
            train_one(options, choice.line)
        else:
            with joined_processes(train_one, options, choice) as own:
                train_one(own, choice.line)
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    return 0


def train_one(options: dict[str, Any], message: str = '') -> None:
    """Trains in one process, or as one of a process group, from BasicSR's option dictionary, checked.

    The message is a line for the log.
    """
    log = BufferedLog(options['rank'])
    try:
        seed_everything(options['manual_seed'])
        if message:
            get_root_logger().info(message)
        if options['num_gpu'] == 0:
            keep_freed_memory()
        Run(options, log).execute()
    finally:
        log.close()


def _build_model(options: dict[str, Any]) -> Any:
    try:
        return build_model(options)
    except URLError as error:
        raise InputError(
            f'train.perceptual_opt: the weights of VGG cannot be downloaded ({error.reason}); put them where the line '
            'above says, or leave the loss out with --set train.perceptual_opt=~'
        ) from error


class Run:
    """One training, from BasicSR's option dictionary, checked."""

    def __init__(self, options: dict[str, Any], log: BufferedLog) -> None:
        self.options = options
        self.total: int = options['train']['total_iter']
        state = find_state(options)
        self.start: int = state['iter'] if state else 0
        if self.start > self.total:
            raise InputError(
                f'the training state is of iteration {self.start}, beyond train.total_iter, {self.total}; raise that, '
                'or move the experiment away'
            )
        self.validation: dict[str, DataLoader[dict[str, Any]]] = {}
        if options.get('val') and options['rank'] == 0:
            self.validation = build_validation_loaders(options)
        if options['train'].get('precision') == 'fp32':
            torch.backends.cudnn.allow_tf32 = False  # else GPUs round the factors of convolutions to ten bits
        self.stream, self.epoch_length = build_training_stream(options, self.start)
        self.model = _build_model(options)
        extra = restore_state(self.model, state) if state else {}
        images = extra.get('images', self.epoch_length)
        if images != self.epoch_length:
            get_root_logger().warning(
                f'the training set has {self.epoch_length} images, and had {images} when the state was written; '
                'the training continues, but not as an uninterrupted one'
            )
        if options['rank']:  # the state is that of the first process; data sets of other packages must draw differently
            seed_everything(mix_seeds(options['manual_seed'] + self.start, options['rank']) % (1 << 32))
        metrics = (options.get('val') or {}).get('metrics') or {}
        resuming = state is not None and bool(options.get('auto_resume'))
        in_place = resuming and bool(list_states(Path(options['path']['training_states'])))
        best = extra.get('best', {}) if in_place else {}  # else its file lies in another folder
        if best.pop('name', None) not in (None, next(iter(metrics), None)):
            get_root_logger().warning('The first of val.metrics has changed; the best validation is counted anew')
            best = {}
        self.best = BestResult(metrics, **best)
        self.wait()  # other processes may still read from the folder that is renamed
        if options['rank'] == 0:
            self.lock = prepare_folders(options, resuming=resuming)
        self.wait()
        log.open_file(options)
        self.progress = TrainingLog(options, self.start)
        self.validated = -1

    def execute(self) -> None:
        """Trains to the end, or until interrupted, and logs a summary."""
        logger = get_root_logger()
        began = time.monotonic()
        logger.info(f'{"Continuing after" if self.start else "Starting at"} iteration {self.start} of {self.total}')
        try:
            alone = not self.options['dist'] or ('cpu_processes' in self.options and self.options['rank'] == 0)
            with deferred_interrupt(enabled=alone) as interrupted:
                if not self.start and self.options.get('val') and self.options['path'].get('pretrain_network_g'):
                    self.validate(0)  # the weights that the training shall improve
                self.iterate(interrupted)
        finally:
            self.stream.close()
            self.progress.close()
            if self.options['rank'] == 0:
                self.lock.close()
        self.summarise(time.monotonic() - began)

    def iterate(self, interrupted: list[int]) -> None:
        """Training loop; ``interrupted`` holds a signal once one was received."""
        frequency = self.options['logger']
        val_frequency = (self.options.get('val') or {}).get('val_freq')
        clock = IterationTimer()
        for iteration in range(self.start + 1, self.total + 1):
            batch = next(self.stream)
            clock.waiting += clock.restart()
            self.model.update_learning_rate(iteration, warmup_iter=self.options['train'].get('warmup_iter', -1))
            self.model.feed_data(batch)
            self.model.optimize_parameters(iteration)
            clock.iteration_done()
            self.progress.step()
            stops, last = agree(self.options, bool(interrupted)), iteration == self.total
            reports = last or iteration % frequency['print_freq'] == 0
            validates = val_frequency and ((last and not stops) or iteration % val_frequency == 0)
            saves = last or stops or iteration % frequency['save_checkpoint_freq'] == 0
            if reports or validates or saves:
                check_finite(self.model, self.options, iteration)
            if reports:
                self.report(iteration, clock)
            if validates and last:
                self.save(iteration)  # the validation may fail
            if validates:
                self.validate(iteration)
                clock.restart()
            if stops and clock.count:
                self.report(iteration, clock)  # else the next run would report its mean for these iterations, too
            if saves:
                self.save(iteration)
                clock.restart()
            if stops:
                get_root_logger().info(f'Stopped after iteration {iteration}; --auto_resume continues from here')
                raise KeyboardInterrupt
        if self.options.get('val') and self.validated != self.total:
            self.validate(self.total)

    def report(self, iteration: int, clock: 'IterationTimer') -> None:
        """Logs losses and times; every process takes part, because losses are averaged over them."""
        batch_size = self.options['datasets']['train']['batch_size_per_gpu'] * self.options['world_size']
        values = {
            **{key: float(value) for key, value in self.model.get_current_log().items()},
            'lr': self.model.get_current_learning_rate()[0],
            'epoch': (iteration - 1) * batch_size // self.epoch_length,
            **clock.means(),
        }
        self.progress.log(iteration, values)

    def validate(self, iteration: int) -> None:
        """Validates in the first process and keeps the best weights; the others wait."""
        found = None
        if self.validation:
            try:
                with all_cores(self.options):
                    results = validate(self.model, self.validation, self.options, iteration)
            except DivergedError as error:
                found = str(error)
        found = share(found, self.model, self.options)
        if found is not None:
            raise DivergedError(found)
        if self.validation:
            self.progress.log_validation(iteration, results)
            partial = isinstance(self.model, SupervisedModel) and self.model.validates_a_part
            if not partial and self.best.update(results, iteration):
                save_weights(self.model, 'best')
        self.validated = iteration
        if self.options['num_gpu'] == 0:
            return_freed_memory()  # images are larger than patches
        self.wait()

    def save(self, iteration: int) -> None:
        """Writes weights and state in the first process."""
        if self.options['rank'] == 0:
            save_weights(self.model, str(iteration))
            save_weights(self.model, 'latest')
            best = {'name': self.best.name, 'value': self.best.value, 'iteration': self.best.iteration}
            write_state(self.model, self.options, iteration, {'best': best, 'images': self.epoch_length})
            prune(self.options, self.options['logger'].get('keep_checkpoints', 3))
        self.wait()

    def summarise(self, seconds: float) -> None:
        """The last lines of the log."""
        logger = get_root_logger()
        done = self.total - self.start
        logger.info(f'Done: {done} iterations in {seconds / 60:.1f} min, {seconds / max(1, done):.3f} s each')
        if self.best.value is not None:
            logger.info(f'Best {self.best.name} {self.best.value:.4f} at iteration {self.best.iteration}')
        logger.info(f'Weights: {self.options["path"]["models"]}')

    def wait(self) -> None:
        """Waits for the other processes."""
        if self.options['dist']:
            torch.distributed.barrier()


class IterationTimer:
    """Mean times of an iteration since the last report."""

    def __init__(self) -> None:
        self.count, self.waiting, self.working = 0, 0.0, 0.0
        self.last = time.monotonic()

    def restart(self) -> float:
        """Seconds since the last call, which count for no iteration unless they are added to one."""
        now = time.monotonic()
        passed, self.last = now - self.last, now
        return passed

    def iteration_done(self) -> None:
        """Ends the work of an iteration."""
        self.working += self.restart()
        self.count += 1

    def means(self) -> dict[str, float]:
        """Seconds of an iteration and of waiting for its data; starts over."""
        count = max(1, self.count)
        out = {'time': (self.waiting + self.working) / count, 'data_time': self.waiting / count}
        self.count, self.waiting, self.working = 0, 0.0, 0.0
        return out


def save_weights(model: Any, label: str) -> None:
    """Writes weights for testing, by the method of the model."""
    if isinstance(model, SupervisedModel):
        model.save_weights(label)
        return
    averaged = getattr(model, 'net_g_ema', None)
    if averaged is None:
        model.save_network(model.net_g, 'net_g', label)
    else:
        model.save_network([model.net_g, averaged], 'net_g', label, param_key=['params', 'params_ema'])


def seed_everything(seed: int) -> None:
    """Seeds the global generators, which initialise networks; training data have generators of their own."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (foreign data sets use it)
    torch.manual_seed(seed)
    if torch.cuda.is_available():
        torch.backends.cudnn.benchmark = True


@contextmanager
def deferred_interrupt(enabled: bool) -> Iterator[list[int]]:
    """Finishes the current iteration before Ctrl-C, SIGTERM or SIGHUP stops the run; a second signal stops at once.

    Yields a list that holds the signal once it has come. A signal that is ignored, as by nohup, stays so.
    """
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        if received:
            raise KeyboardInterrupt
        received.append(number)

    signals = [number for number in STOP_SIGNALS if signal.getsignal(number) != signal.SIG_IGN] if enabled else []
    try:
        previous = {number: signal.signal(number, handle) for number in signals}
    except ValueError:  # not in the main thread
        previous = {}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
