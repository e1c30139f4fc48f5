"""`dasr serve`: web page and HTTP API for upscaling."""

import argparse
import secrets
import sys
from pathlib import Path

from dasr_cli.arguments import add_device


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.description = (
        'Serve a page that upscales images, a page to try degradations, and an HTTP API, described at '
        '/docs. By default only this machine can connect. The pages load nothing from other hosts.'
    )
    parser.add_argument('--host', default='127.0.0.1', help='address to listen on (127.0.0.1: this machine only)')
    parser.add_argument('--port', type=int, default=7860, help='port; 0 picks a free one (7860)')
    parser.add_argument(
        '--token', nargs='?', const='', help='require this token from clients; without a value a random one'
    )
    parser.add_argument(
        '--allow-host', action='append', default=[], metavar='NAME', help='another name of this server; may be repeated'
    )
    parser.add_argument(
        '--root-path',
        default='',
        metavar='PATH',
        help='path below which a reverse proxy shows the server, such as /tool',
    )
    parser.add_argument(
        '--forwarded', action='store_true', help='trust X-Forwarded-Host and X-Forwarded-Proto of a reverse proxy'
    )
    parser.add_argument('--open', action='store_true', help='open the page in a browser')
    computing = parser.add_argument_group('computing')
    computing.add_argument(
        '--model',
        action='append',
        type=Path,
        default=[],
        metavar='FILE',
        help='weights file to serve in addition to those installed',
    )
    add_device(computing)
    limits = parser.add_argument_group('limits')
    limits.add_argument('--max-upload', type=float, default=64, metavar='MB', help='largest upload (64)')
    limits.add_argument('--max-megapixels', type=float, default=16, metavar='MP', help='largest image (16)')
    limits.add_argument('--jobs', type=int, default=1, help='images computed in parallel (1)')
    limits.add_argument('--queue', type=int, default=8, help='further images that may wait (8)')
    limits.add_argument('--keep', type=float, default=15, metavar='MINUTES', help='time until results are deleted (15)')


def run(args: argparse.Namespace) -> int:
    """Serves until Ctrl-C."""
    from dasr_arch._extras import import_extra

    for name in ('fastapi', 'uvicorn', 'python_multipart'):
        import_extra(name, 'serve')
    from dasr_arch.web.server import serve
    from dasr_arch.web.settings import Limits, ServeSettings

    limits = Limits(
        upload_megabytes=args.max_upload,
        megapixels=args.max_megapixels,
        jobs=args.jobs,
        queue=args.queue,
        keep_minutes=args.keep,
    )
    settings = ServeSettings(
        host=args.host,
        port=args.port,
        token=secrets.token_urlsafe(24) if args.token == '' else args.token,
        weights=tuple(args.model),
        allowed_hosts=tuple(args.allow_host),
        root_path=args.root_path,
        forwarded=args.forwarded,
        device=args.device,
        precision=args.precision,
        limits=limits,
    )

    def report(line: str) -> None:
        print(line, file=sys.stderr if line.startswith('warning') else sys.stdout, flush=True)
        if args.open and line.startswith('open '):
            import webbrowser

            webbrowser.open(line.split()[1])

    serve(settings, report)
    print('stopped', flush=True)
    return 0
