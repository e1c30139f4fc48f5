"""Checks and measures `dasr upscale --engine ray` on this machine: `python tools/measure_ray.py kills|speed`.

kills: a job of many small images, of which first a worker and then the driver is killed with SIGKILL, is run again.
Each result must be there once and equal that of the command without Ray, byte for byte. Prints the memory, too.
speed: images per second of one worker and of several, one thread each, in turns.
"""

import argparse
import hashlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from pyarrow import parquet

MIB = 1 << 20
ONE_THREAD = os.environ | {'OMP_NUM_THREADS': '1'}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one part; returns 0 if everything held."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument('part', choices=('kills', 'speed'))
    parser.add_argument('--images', type=int, help='number of images (10,000; for speed 64)')
    parser.add_argument('--side', type=int, help='longest side in pixels (24; for speed 160)')
    parser.add_argument('--workers', type=int, default=2, help='number of workers (2)')
    parser.add_argument('--rounds', type=int, default=3, help='runs of each for speed (3)')
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if args.part == 'kills':
            make_images(folder / 'in', args.images or 10_000, args.side or 24)
            return check_kills(folder, args.workers)
        make_images(folder / 'in', args.images or 64, args.side or 160)
        return measure_speed(folder, args.workers, args.rounds)


def make_images(folder: Path, count: int, side: int) -> None:
    """Writes PNG and JPEG files of noise with sides of side/2 to side pixels."""
    draw = np.random.default_rng(0)
    folder.mkdir()
    for index in range(count):
        height, width = draw.integers(side // 2, side, 2, endpoint=True)
        image = Image.fromarray(draw.integers(0, 256, (height, width, 3), dtype=np.uint8))
        image.save(folder / f'{index:06d}.{"jpg" if index % 2 else "png"}')


def check_kills(folder: Path, workers: int) -> int:
    """Kills a worker and the driver of a job, runs it again, and compares."""
    expected, out, results = folder / 'expected', folder / 'out', folder / 'results'
    begun = time.monotonic()
    parts = [start(folder, expected, '--shard', f'{part}/2', '--resume') for part in (1, 2)]
    if any(part.wait() for part in parts):
        raise SystemExit('the command without Ray failed')
    print(f'without Ray, two processes: {time.monotonic() - begun:.0f} s', flush=True)
    total = count(expected)
    command = ('--engine', 'ray', '--results', str(results), '--workers', str(workers))
    driver = start(folder, out, *command)
    wait_for(out, total * 3 // 10, driver)
    os.kill(find_workers()[0], signal.SIGKILL)
    wait_for(out, total * 6 // 10, driver)
    driver.kill()
    driver.wait()
    killed_at = count(out)
    while find_workers():
        time.sleep(0.5)
    half = [path for path in out.rglob('*') if path.name.startswith('.')]
    begun = time.monotonic()
    driver = start(folder, out, *command)
    memory = list(watch(driver))
    rows = parquet.read_table(results / 'rows.parquet').to_pylist()
    equal = sum(digest(out / path.name) == digest(path) == row['sha256'] for path, row in pair(expected, rows))
    held = driver.returncode == 0 and equal == total == count(out) == len(rows)
    print(f'driver killed after {killed_at} of {total} images, {len(half)} temporary files left by the kill')
    print(f'second run: {time.monotonic() - begun:.0f} s, exit code {driver.returncode}')
    print(f'{len(rows)} rows, {count(out)} results, {equal} equal to those without Ray')
    for quarter, values in zip(
        ('second', 'last'), (memory[len(memory) // 4 : len(memory) // 2], memory[-(len(memory) // 4) :]), strict=True
    ):
        largest, drivers = (statistics.median(one) / MIB for one in zip(*values, strict=True))
        print(f'{quarter} quarter of the second run: largest worker {largest:.0f} MiB, driver {drivers:.0f} MiB')
    print('held' if held else 'FAILED')
    return 0 if held else 1


def measure_speed(folder: Path, workers: int, rounds: int) -> int:
    """Compares one worker with several, in turns; the start is not counted."""
    seconds: dict[int, list[float]] = {1: [], workers: []}
    for _ in range(rounds):
        for number, times_each in seconds.items():
            for name in ('out', 'results'):
                shutil.rmtree(folder / name, ignore_errors=True)
            command = ('--engine', 'ray', '--results', str(folder / 'results'), '--workers', str(number))
            driver = start(folder, folder / 'out', *command)
            if driver.wait():
                return 1
            times = [path.stat().st_mtime for path in (folder / 'out').iterdir()]
            rows = parquet.read_table(folder / 'results' / 'rows.parquet').to_pylist()
            whole = max(times) - min(times) + statistics.mean(row['seconds'] for row in rows)
            times_each.append(whole / len(times))
            print(f'{number} workers: {1 / times_each[-1]:.2f} images a second', flush=True)
    one, several = (statistics.median(values) for values in seconds.values())
    print(f'{workers} workers are {one / several:.2f} times as fast as one (medians of {rounds})')
    return 0


def start(folder: Path, out: Path, *options: str) -> subprocess.Popen[bytes]:
    """Starts the command."""
    command = [sys.executable, '-m', 'dasr_cli', 'upscale', str(folder / 'in'), '-o', f'{out}/', *options]
    return subprocess.Popen(command, env=ONE_THREAD, stdout=subprocess.DEVNULL)


def count(folder: Path) -> int:
    """Number of results."""
    return sum(not entry.name.startswith('.') for entry in os.scandir(folder)) if folder.exists() else 0


def wait_for(out: Path, number: int, driver: subprocess.Popen[bytes]) -> None:
    """Waits until so many results are there."""
    while count(out) < number:
        if driver.poll() is not None:
            raise SystemExit(f'the job ended with exit code {driver.returncode} before the kill')
        time.sleep(0.2)


def find_workers() -> list[int]:
    """Process numbers of Ray's workers that upscale."""
    found = []
    for entry in Path('/proc').glob('[0-9]*/cmdline'):
        try:
            if entry.read_bytes().startswith(b'ray::MapWorker(MapBatches(Worker))'):
                found.append(int(entry.parent.name))
        except OSError:
            continue
    return found


def resident(pid: int) -> int:
    """Resident memory of a process in bytes, 0 if it is gone."""
    try:
        return int(Path(f'/proc/{pid}/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE')
    except OSError:
        return 0


def watch(driver: subprocess.Popen[bytes]) -> Iterator[tuple[int, int]]:
    """Resident memory of the largest worker and of the driver, once a second until the end."""
    while driver.poll() is None:
        workers = [resident(pid) for pid in find_workers()]
        if workers:
            yield max(workers), resident(driver.pid)
        time.sleep(1)


def pair(expected: Path, rows: Sequence[dict[str, str]]) -> Iterator[tuple[Path, dict[str, str]]]:
    """Expected results with their rows."""
    known = {Path(row['out']).name: row for row in rows}
    return ((path, known[path.name]) for path in sorted(expected.iterdir()) if path.name in known)


def digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ''


if __name__ == '__main__':
    sys.exit(main())
