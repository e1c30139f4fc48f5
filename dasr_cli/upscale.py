"""`dasr upscale`: enlarges image files, folders, patterns, what comes through a pipe, or video."""

import argparse
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dasr_arch.inference.output_paths import Plan
    from dasr_arch.inference.upscale_files import FileSettings, UpscaleReport
    from dasr_arch.inference.upscaler import Upscaler

_SHOWN = 20


def add_parser(subparsers: 'argparse._SubParsersAction[Any]') -> None:
    """Declares the subcommand."""
    parser = subparsers.add_parser(
        'upscale',
        help='enlarge images: files, folders, patterns, or a pipe; or video',
        description='Enlarge images, each as its own blur and noise ask for. photo.png becomes photo_x4.png beside '
        'it, and a folder becomes folder_x4, unless OUT says otherwise. Formats, colour profiles, metadata, '
        'transparency and bit depth are kept; of video, sound, subtitles, time stamps and rotation. Nothing is '
        'replaced without --force.',
    )
    parser.add_argument(
        'paths',
        nargs='+',
        metavar='IN [OUT]',
        help="image, folder, pattern such as 'photos/*.jpg', video, or - for stdin; then what to make, - for stdout",
    )
    parser.add_argument('-o', '--out', metavar='OUT', help='what to make, where several images stand before')
    parser.add_argument('--scale', type=int, help='factor (4, or that of the named weights or file)')
    parser.add_argument('--model', default='general', help='general, iso, a name that `dasr models` lists, or a file')
    look = parser.add_argument_group('what to adapt to')
    look.add_argument('--like', metavar='REF', help='take blur and noise to be those of another image')
    look.add_argument(
        '--strength', type=float, default=1.0, help='1: as the image asks for; 0: as if it were clean; up to 2 (1)'
    )
    look.add_argument('--ensemble', action='store_true', help='average over eight turned copies: 8 times the time')
    files = parser.add_argument_group('files')
    files.add_argument('--force', action='store_true', help='replace files that exist')
    files.add_argument('--resume', action='store_true', help='leave out images whose result exists')
    files.add_argument('--recursive', action='store_true', help='look into folders inside the folder, too')
    files.add_argument('--format', metavar='NAME', help='png, jpg, webp, tiff, bmp, gif, avif (that of the input)')
    files.add_argument('--quality', type=int, help='of JPEG, WebP and AVIF, 1 to 100 (95; a lossless WebP stays so)')
    video = parser.add_argument_group('video (extra: video)')
    video.add_argument('--codec', metavar='NAME', help='h264, h265, av1, vp9 or ffv1 (h264; h265 above 8 bits)')
    video.add_argument('--crf', type=int, help='quality, smaller is better (17 for h264, 19 h265, 22 av1 and vp9)')
    video.add_argument('--start', type=float, metavar='SECONDS', help='leave out what comes before')
    video.add_argument('--duration', type=float, metavar='SECONDS', help='upscale so much from there on')
    work = parser.add_argument_group('computing')
    work.add_argument('--tile', type=int, metavar='N', help='side of a tile in pixels of IN (from the memory)')
    work.add_argument(
        '--exact', action='store_true', help='margins as wide as the network sees, so that tiles change nothing'
    )
    work.add_argument('--device', default='auto', help='auto, cpu, cuda or mps (auto)')
    work.add_argument('--precision', default='auto', help='auto, fp32 or bf16 (auto)')
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Upscales, then tells what was made and what was left out.

    Args:
        args: what the parser gave.

    Returns:
        0, or 2 if an image could not be used.
    """
    from dasr_arch.inference.output_paths import split_paths
    from dasr_arch.inference.upscale_files import plan_upscaling, run_plan
    from dasr_arch.inference.upscaler import find_scale
    from dasr_arch.inference.video.upscale_video import is_video

    settings = _read_settings(args)
    args.scale = find_scale(args.model, args.scale)
    sources, target = split_paths(args.paths, args.out, args.scale)
    if any(map(is_video, sources)):
        return _upscale_videos(args, sources, target, settings)
    _refuse_video_options(args)
    if '-' in sources or target == '-':
        return _pipe(args, sources, target, settings)
    plan = plan_upscaling(args.scale, sources, target, settings)
    if plan.jobs or not (plan.done or plan.failed):
        try:
            report = run_plan(_make_upscaler(args), plan, settings)
        except KeyboardInterrupt:
            print('stopped; what is finished is whole, --resume goes on', file=sys.stderr)
            raise
    else:
        report = _nothing_to_do(plan)
    _print_report(report)
    return 2 if report.failed else 0


def _upscale_videos(args: argparse.Namespace, sources: list[str], target: str | None, settings: 'FileSettings') -> int:
    """Upscales videos one after the other; a bad one is named, and the rest goes on."""
    from dasr_arch._errors import InputError
    from dasr_arch._extras import import_extra
    from dasr_arch.inference.output_paths import Naming
    from dasr_arch.inference.video.reader import VideoSettings
    from dasr_arch.inference.video.upscale_video import is_video, plan_videos, upscale_video

    if not all(map(is_video, sources)):
        raise InputError('images and videos cannot be mixed in one command; give them in two')
    given = {'--format': args.format, '--quality': args.quality, '--recursive': args.recursive or None}
    wrong = next((name for name, value in given.items() if value is not None), None)
    if wrong is not None:
        raise InputError(f'{wrong} is for images; of video, OUT chooses the format, --codec and --crf the quality')
    import_extra('av', 'video')
    video = VideoSettings(args.codec, args.crf, args.start or 0.0, args.duration)
    plan = plan_videos(sources, target, Naming(args.scale, force=args.force, resume=args.resume))
    upscaler = _make_upscaler(args) if plan.jobs else None
    failed = False
    for job in plan.jobs:
        assert upscaler is not None
        try:
            report = upscale_video(upscaler, job.source, job.target, video, settings.look)
        except InputError as error:
            print(f'dasr: error: {error}', file=sys.stderr)
            failed = True
            continue
        except KeyboardInterrupt:
            print(f'stopped; nothing of {job.target} is left', file=sys.stderr)
            raise
        for note in report.notes:
            print(f'dasr: {job.source}: {note}', file=sys.stderr)
        print(report.path)
    if plan.done:
        print(f'{len(plan.done)} were done already')
    return 2 if failed else 0


def _refuse_video_options(args: argparse.Namespace) -> None:
    from dasr_arch._errors import InputError

    for name in ('codec', 'crf', 'start', 'duration'):
        if getattr(args, name) is not None:
            raise InputError(f'--{name} is for video; leave it out, or give a video file')


def _read_settings(args: argparse.Namespace) -> 'FileSettings':
    """What the arguments ask for; InputError if they are wrong."""
    from pathlib import Path

    from dasr_arch._errors import InputError
    from dasr_arch.data.image_io import read_bytes
    from dasr_arch.inference.images.io import SUFFIXES, OutputSettings, read_image_file
    from dasr_arch.inference.upscale_files import FileSettings
    from dasr_arch.inference.upscaler import Look

    if args.force and args.resume:
        raise InputError('--force replaces what --resume leaves out; give one of them')
    kind = None
    if args.format is not None:
        kind = SUFFIXES.get(f'.{args.format.lower().removeprefix(".")}')
        if kind is None:
            known = ', '.join(sorted(suffix[1:] for suffix in SUFFIXES))
            raise InputError(f"--format: unknown format '{args.format}'; use one of {known}")
    like = None if args.like is None else read_image_file(read_bytes(Path(args.like)), args.like).frames[0]
    return FileSettings(
        look=Look(like, args.strength, args.ensemble),
        output=OutputSettings(kind, args.quality),
        force=args.force,
        resume=args.resume,
        recursive=args.recursive,
    )


def _make_upscaler(args: argparse.Namespace) -> 'Upscaler':
    from dasr_arch.inference.tiling import Tiling
    from dasr_arch.inference.upscaler import Upscaler

    tiling = Tiling(args.tile, args.exact)
    return Upscaler(args.scale, args.model, device=args.device, precision=args.precision, tiling=tiling)


def _pipe(args: argparse.Namespace, sources: list[str], out: str | None, settings: 'FileSettings') -> int:
    """From stdin or a file to stdout or a file."""
    import os
    from dataclasses import replace
    from pathlib import Path

    from dasr_arch._errors import InputError
    from dasr_arch._files import atomic_write
    from dasr_arch.data.image_io import read_bytes
    from dasr_arch.inference.output_paths import format_for
    from dasr_arch.inference.upscale_files import upscale_bytes

    target = None if out in (None, '-') else Path(str(out))
    if len(sources) > 1 or settings.resume or settings.recursive:
        raise InputError('a pipe carries one image; give one, without --resume and --recursive')
    if target is None and sys.stdout.isatty():
        raise InputError('an image would fill the terminal; name a file, or send it on with > or |')
    if target is not None:
        kind = format_for(target, settings.output.format)
        settings = replace(settings, output=replace(settings.output, format=kind))
        if os.path.lexists(target) and not settings.force:
            raise InputError(f'{target}: exists already; --force replaces it')
    source = sources[0]
    name = 'stdin' if source == '-' else source
    data = sys.stdin.buffer.read() if source == '-' else read_bytes(Path(source))
    result = upscale_bytes(_make_upscaler(args), data, name, settings)
    if target is None:
        sys.stdout.buffer.write(result)
        sys.stdout.buffer.flush()
    else:
        with atomic_write(target) as temporary:
            temporary.write_bytes(result)
    return 0


def _nothing_to_do(plan: 'Plan') -> 'UpscaleReport':
    from dasr_arch.inference.upscale_files import UpscaleReport

    return UpscaleReport([], plan.done, plan.failed)


def _print_report(report: 'UpscaleReport') -> None:
    for path in report.made[:_SHOWN]:
        print(path)
    if len(report.made) > _SHOWN:
        print(f'and {len(report.made) - _SHOWN} more in {report.made[-1].parent}')
    if report.done:
        print(f'{len(report.done)} were done already')
    for image in report.failed[:_SHOWN]:
        print(f'dasr: error: {image.path}: {image.reason}', file=sys.stderr)
    if len(report.failed) > _SHOWN:
        print(f'dasr: error: and {len(report.failed) - _SHOWN} more images', file=sys.stderr)
