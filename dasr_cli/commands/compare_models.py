"""`dasr compare-models`: crops of an image by all installed models in one HTML page."""

import argparse
from pathlib import Path

from dasr_cli.arguments import add_force


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.description = (
        'Upscale parts of an image with all installed models and bicubically, and write one HTML page that shows them '
        'side by side and with a slider.'
    )
    parser.add_argument('image', type=Path, metavar='IMAGE', help='image file')
    parser.add_argument('-o', '--out', type=Path, metavar='FILE', help='page (IMAGE_models.html)')
    parser.add_argument('--scale', type=int, default=4, help='upsampling factor (4)')
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or mps (auto)')
    add_force(parser)


def run(args: argparse.Namespace) -> int:
    """Writes the page and prints its address."""
    from dasr_arch._errors import InputError
    from dasr_arch._files import check_free, write_whole
    from dasr_arch.benchmark.pages.models_page import render_models_page

    out = args.out or args.image.with_name(f'{args.image.stem}_models.html')
    check_free(out, args.force)
    if out.exists() and args.image.exists() and out.samefile(args.image):
        raise InputError(f'{out}: is the image itself; choose another name for the page')
    page = render_models_page(args.image, args.scale, args.device)
    write_whole(out, page)
    print(f'open in a browser: {out.resolve().as_uri()}')
    return 0
