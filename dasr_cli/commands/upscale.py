"""`dasr upscale`: upscales image files, folders, patterns, a pipe, or video."""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dasr_cli.arguments import RenamedOption, add_device, add_force, add_model, add_shard
from dasr_cli.messages import EMPTY_SHARD, SHOWN, describe_left_out, print_error, print_failures, print_note, print_path

if TYPE_CHECKING:
    from dasr_arch.cluster.pool_options import PoolOptions
    from dasr_arch.data.input_lists import Manifest, Shard
    from dasr_arch.inference.model_pool import ModelPool
    from dasr_arch.inference.target_size import Scale
    from dasr_arch.inference.upscale_files import FileSettings, UpscaleReport


# Also where the shell has put a file in the place of one:
_STDIN = ('-', '/dev/stdin', '/dev/fd/0', '/proc/self/fd/0')
_STDOUT = ('-', '/dev/stdout', '/dev/fd/1', '/proc/self/fd/1')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.description = (
        'Upscale images or video; the degradation of each is estimated. The default output of photo.png '
        'is photo_x4.png next to it, that of a folder is folder_x4. Images keep format, colour profile, metadata, '
        'transparency and bit depth; video keeps sound, subtitles, time stamps and rotation. Existing files are '
        'replaced with --force only.'
    )
    parser.add_argument(
        'paths',
        nargs='*',
        metavar='IN [OUT]',
        help="image, folder, pattern such as 'photos/*.jpg', video, or - for stdin; then output file, folder, or - "
        'for stdout',
    )
    parser.add_argument('-o', '--out', metavar='OUT', help='output file or folder')
    add_model(parser, more='; auto: general, iso or photo, as fits each image', scales='; 1 keeps the size')
    size = parser.add_argument_group('size of the result, up to 4 times that of the image, with its aspect ratio')
    size.add_argument('--to', metavar='WxH', help='the largest size that fits inside, such as 3840x2160')
    size.add_argument('--long-side', type=int, metavar='N', help='pixels of the longer side')
    size.add_argument('--short-side', type=int, metavar='N', help='pixels of the shorter side')
    adaptation = parser.add_argument_group('adaptation')
    adaptation.add_argument('--reference', metavar='IMAGE', help='use the representation of this image')
    adaptation.add_argument('--like', dest='reference', action=RenamedOption, new='--reference')
    adaptation.add_argument(
        '--strength', type=float, default=1.0, help='1: own degradation, 0: clean image, up to 2: exaggerated (1)'
    )
    adaptation.add_argument('--ensemble', action='store_true', help='self-ensemble; 8 times slower')
    adaptation.add_argument(
        '--mask', metavar='IMAGE', help='upscale with the network where this image is white, bicubically where black'
    )
    files = parser.add_argument_group('files')
    add_force(files)
    files.add_argument('--resume', action='store_true', help='skip inputs whose result exists')
    files.add_argument('--recursive', action='store_true', help='include subfolders')
    add_shard(files, 'path and, to name the result, out')
    files.add_argument('--format', metavar='NAME', help='png, jpg, webp, tiff, bmp, gif, avif (that of the input)')
    files.add_argument(
        '--quality', type=int, help='quality of JPEG, WebP, AVIF, 1 to 100 (95; lossless WebP stays lossless)'
    )
    video = parser.add_argument_group('video (extra: video)')
    video.add_argument('--codec', metavar='NAME', help='h264, h265, av1, vp9 or ffv1 (h264; h265 above 8 bits)')
    video.add_argument('--crf', type=int, help='quality, smaller is better (17 for h264, 19 h265, 22 av1 and vp9)')
    video.add_argument('--start', type=float, metavar='SECONDS', help='seconds to skip at the beginning (0)')
    video.add_argument('--duration', type=float, metavar='SECONDS', help='seconds to upscale (to the end)')
    computing = parser.add_argument_group('computing')
    computing.add_argument('--tile', type=int, metavar='N', help='side of a tile in LR pixels (by available memory)')
    computing.add_argument(
        '--exact', action='store_true', help='pad tiles by the full receptive field (identical to untiled output)'
    )
    add_device(computing)
    cluster = parser.add_argument_group('cluster (extra: ray)')
    cluster.add_argument('--engine', metavar='NAME', help='ray: images are upscaled by the workers of a Ray cluster')
    cluster.add_argument('--results', metavar='FOLDER', help='rows about the results, for the next run of the job, too')
    cluster.add_argument('--workers', type=int, metavar='N', help='processes (as many as there are cores or GPUs for)')
    cluster.add_argument('--cpus', type=int, metavar='N', help='cores of a worker (1)')
    cluster.add_argument(
        '--gpus', type=float, metavar='N', help='GPUs of a worker, such as 0.5 (1 where there are any)'
    )


def run(args: argparse.Namespace) -> int:
    """Upscales and prints the output paths; returns 2 if an image could not be used."""
    from dasr_arch._errors import InputError
    from dasr_arch.data.input_lists import Manifest
    from dasr_arch.inference.output_paths import is_video
    from dasr_arch.inference.upscale_files import UpscaleReport, plan_upscaling, run_plan

    settings = _read_settings(args)
    options = _read_options(args)
    pool = options.make_pool()
    sources, target = _read_sources(args, settings.size or pool.scale)
    on_videos = any(map(is_video, [sources.first] if isinstance(sources, Manifest) else sources))
    if args.engine is not None:
        if on_videos:
            raise InputError('--engine ray takes images; for videos leave it out')
        return _upscale_with_ray(args, sources, target, settings, options, pool)
    _refuse_options(args, ('results', 'workers', 'cpus', 'gpus'), 'is for clusters; add --engine ray, or leave it out')
    if on_videos:
        return _upscale_videos(args, sources, target, settings, pool)
    _refuse_options(args, ('codec', 'crf', 'start', 'duration'), 'is for video; leave it out, or give a video file')
    if isinstance(sources, list) and any(map(_is_pipe, (*sources, target or ''))):
        return _pipe(sources, target, settings, pool)
    plan = plan_upscaling(pool, sources, target, settings)
    if plan.jobs or not (plan.done or plan.failed or settings.shard.total > 1):
        _print_model(pool, settings)
        try:
            report = run_plan(pool, plan, settings)
        except KeyboardInterrupt:
            print('stopped; what is finished is whole, --resume goes on', file=sys.stderr)
            raise
    else:
        report = UpscaleReport([], *plan[1:])
    _print_report(report, settings.shard)
    return 2 if report.failed else 0


def _read_sources(args: argparse.Namespace, scale: 'Scale') -> 'tuple[list[str] | Manifest, str | None]':
    """Inputs and output path of the arguments; InputError if they are wrong."""
    from dasr_arch._errors import InputError
    from dasr_arch.data.input_lists import Manifest
    from dasr_arch.inference.output_paths import split_paths

    if args.manifest is None:
        if not args.paths:
            raise InputError('the following arguments are required: IN [OUT]; see `dasr upscale --help`')
        return split_paths(args.paths, args.out, scale)
    if args.paths:
        raise InputError(f'--manifest lists the inputs; leave {args.paths[0]} out, and give the output folder with -o')
    if args.out is not None and _is_pipe(args.out):
        raise InputError(f'{args.out}: expected a folder for the results of a manifest; choose another name')
    return Manifest(args.manifest), args.out


def _upscale_videos(
    args: argparse.Namespace,
    sources: 'list[str] | Manifest',
    target: str | None,
    settings: 'FileSettings',
    pool: 'ModelPool',
) -> int:
    """Upscales videos one by one; prints an error for a bad one and goes on."""
    from dasr_arch._errors import InputError
    from dasr_arch._extras import import_extra
    from dasr_arch.inference.output_paths import PathSettings, is_video, plan_videos
    from dasr_arch.inference.video.reader import VideoSettings
    from dasr_arch.inference.video.upscale_video import upscale_video

    if isinstance(sources, list) and not all(map(is_video, sources)):
        raise InputError('images and videos cannot be mixed in one command; give them in two')
    reason = 'is for images; of video, OUT chooses the format, --codec and --crf the quality'
    _refuse_options(args, ('format', 'quality', 'recursive'), reason)
    _refuse_options(args, ('mask',), 'is for images, not for videos; leave it out')
    import_extra('av', 'video')
    video = VideoSettings(args.codec, args.crf, args.start or 0.0, args.duration, settings.size)
    shard = settings.shard
    rules = PathSettings(settings.size or pool.scale, force=args.force, resume=args.resume, shard=shard)
    plan = plan_videos(sources, target, rules)
    print_failures(plan.failed)
    failed = len(plan.failed)
    if plan.jobs:
        _print_model(pool, settings)
    for job in plan.jobs:
        try:
            report = upscale_video(pool, job.source, job.target, video, settings.adaptation)
        except InputError as error:
            print_error(error)
            failed += 1
            continue
        except KeyboardInterrupt:
            print(f'stopped; nothing of {job.target} is left', file=sys.stderr)
            raise
        print_path(report.path)
    if plan.done:
        print(f'already done: {len(plan.done)}')
    if plan.left_out:
        print(f'{len(plan.left_out)} left out, results of this command', file=sys.stderr)
    if shard.total > 1:
        made = len(plan.jobs) + len(plan.failed) - failed
        _print_totals(shard, {'upscaled': made, 'already done': len(plan.done), 'failed': failed}, [])
    return 2 if failed else 0


def _upscale_with_ray(
    args: argparse.Namespace,
    sources: 'list[str] | Manifest',
    target: str | None,
    settings: 'FileSettings',
    options: 'PoolOptions',
    pool: 'ModelPool',
) -> int:
    """Upscales images on a cluster; returns 2 if an image could not be used."""
    from dasr_arch._errors import InputError
    from dasr_arch.cluster.ray_engine import Workers, upscale_with_ray

    if args.engine != 'ray':
        raise InputError(
            f"--engine: there is no engine '{args.engine}'; use ray, or leave it out for this machine alone"
        )
    if args.results is None:
        raise InputError('--engine ray needs a folder for the rows about the results; give it with --results')
    _refuse_options(args, ('codec', 'crf', 'start', 'duration'), 'is for video, which --engine ray does not take')
    if isinstance(sources, list) and any(map(_is_pipe, (*sources, target or ''))):
        raise InputError('--engine ray takes files; for pipes leave it out')
    workers = Workers(args.workers, 1 if args.cpus is None else args.cpus, args.gpus)
    _print_model(pool, settings)
    try:
        report = upscale_with_ray(options, sources, target, args.results, settings, workers)
    except KeyboardInterrupt:
        print('stopped; what is finished is whole, the same command goes on', file=sys.stderr)
        raise
    print_path(report.rows)
    print_failures(report.failed)
    counts = {'upscaled': report.made, 'already done': report.done, 'failed': len(report.failed)}
    _print_totals(settings.shard, counts, report.left_out)
    return 2 if report.failed else 0


def _refuse_options(args: argparse.Namespace, names: tuple[str, ...], reason: str) -> None:
    from dasr_arch._errors import InputError

    for name in names:
        if getattr(args, name) is not None and getattr(args, name) is not False:
            raise InputError(f'--{name} {reason}')


def _read_settings(args: argparse.Namespace) -> 'FileSettings':
    """Settings of the arguments; InputError if they are wrong."""
    from dasr_arch._errors import InputError
    from dasr_arch.data.image_io import read_bytes
    from dasr_arch.data.input_lists import Shard
    from dasr_arch.inference.images.io import SUFFIXES, OutputSettings, read_image_file
    from dasr_arch.inference.target_size import TargetSize
    from dasr_arch.inference.upscale_files import FileSettings
    from dasr_arch.inference.upscaler import AdaptationOptions

    shard = Shard.parse(args.shard)
    if args.force and args.resume:
        raise InputError('--force replaces what --resume leaves out; give one of them')
    kind = None
    if args.format is not None:
        kind = SUFFIXES.get(f'.{args.format.lower().removeprefix(".")}')
        if kind is None:
            known = ', '.join(sorted(suffix[1:] for suffix in SUFFIXES))
            raise InputError(f"--format: unknown format '{args.format}'; use one of {known}")
    reference, mask = (
        None if path is None else read_image_file(read_bytes(Path(path)), path).frames[0]
        for path in (args.reference, args.mask)
    )
    return FileSettings(
        adaptation=AdaptationOptions(reference, args.strength, args.ensemble),
        size=TargetSize.read(args.to, args.long_side, args.short_side, args.scale),
        mask=mask,
        output=OutputSettings(kind, args.quality),
        force=args.force,
        resume=args.resume,
        recursive=args.recursive,
        shard=shard,
    )


def _read_options(args: argparse.Namespace) -> 'PoolOptions':
    """Networks of the arguments; InputError if they are wrong."""
    from dasr_arch.cluster.pool_options import PoolOptions
    from dasr_arch.inference.tiling import Tiling

    scale = None if args.scale == 1 else args.scale
    return PoolOptions(args.model, scale, args.device, args.precision, Tiling(args.tile, args.exact))


def _print_model(pool: 'ModelPool', settings: 'FileSettings') -> None:
    """Prints the model and why it is used; with a size, a line for each image does."""
    line = pool.describe()
    if line and settings.size is None:
        print(f'dasr: {line}', file=sys.stderr)


def _is_pipe(path: str) -> bool:
    """True for - and for what is neither a file nor a folder, such as /dev/stdout, a FIFO or the shell's <(command)."""
    known = Path(path)
    return path in _STDIN + _STDOUT or (bool(path) and known.exists() and not known.is_file() and not known.is_dir())


def _pipe(sources: list[str], out: str | None, settings: 'FileSettings', pool: 'ModelPool') -> int:
    """Upscales one image from stdin or a file to stdout or a file."""
    from dasr_arch._errors import InputError
    from dasr_arch._files import check_writable, write_whole
    from dasr_arch.data.image_io import read_bytes
    from dasr_arch.inference.output_paths import format_for
    from dasr_arch.inference.upscale_files import upscale_bytes

    target = None if out is None or out in _STDOUT else Path(out)
    stream = target is None or _is_pipe(str(target))
    if len(sources) > 1 or settings.resume or settings.recursive or settings.shard.total > 1:
        raise InputError('a pipe carries one image; give one, without --resume, --recursive and --shard')
    if target is None and sys.stdout.isatty():
        raise InputError('an image would fill the terminal; name a file, or send it on with > or |')
    if target is not None and not stream:
        kind = format_for(target, settings.output.format)
        settings = replace(settings, output=replace(settings.output, format=kind))
        if os.path.lexists(target) and not settings.force:
            raise InputError(f'{target}: exists already; --force replaces it')
        check_writable(target)
    source = sources[0]
    name = 'stdin' if source == '-' else source
    data = sys.stdin.buffer.read() if source in _STDIN else read_bytes(Path(source))
    _print_model(pool, settings)
    result = upscale_bytes(pool, data, name, settings, notify=partial(print_note, name))
    if target is None:
        sys.stdout.buffer.write(result)
        sys.stdout.buffer.flush()
    elif stream:
        target.write_bytes(result)
    else:
        write_whole(target, result)
    return 0


def _print_report(report: 'UpscaleReport', shard: 'Shard') -> None:
    for path in report.made[:SHOWN]:
        print_path(path)
    if len(report.made) > SHOWN:
        print(f'and {len(report.made) - SHOWN} more in {report.made[-1].parent}')
    if report.done:
        print(f'already done: {len(report.done)}')
    print_failures(report.failed)
    counts = {'upscaled': len(report.made), 'already done': len(report.done), 'failed': len(report.failed)}
    if sum(counts.values()) + len(report.left_out) > 1 or shard.total > 1:
        _print_totals(shard, counts, report.left_out)


def _print_totals(shard: 'Shard', counts: dict[str, int], left_out: Sequence[Path]) -> None:
    """Prints the numbers of files that are not 0."""
    parts = [f'{number} {name}' for name, number in counts.items() if number]
    if left_out:
        parts.append(f'{describe_left_out(left_out)}: not images, or results of this command')
    print(f'{shard.label}{"; ".join(parts) or EMPTY_SHARD}', file=sys.stderr)
