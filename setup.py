"""Install metadata of the package; tool settings are in pyproject.toml, pinned versions in constraints.txt."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def read_version() -> str:
    """Version written in dasr_arch/version.py, read as text: importing the package would need its dependencies."""
    text = (ROOT / 'dasr_arch' / 'version.py').read_text(encoding='utf-8')
    found = re.search(r"^__version__ = '([^']+)'$", text, flags=re.MULTILINE)
    if found is None:
        raise RuntimeError("dasr_arch/version.py has no line of the form: __version__ = '1.2.3'")
    return found.group(1)


def read_description() -> str:
    """Text of README.md, shown by package indexes."""
    readme = ROOT / 'README.md'
    return readme.read_text(encoding='utf-8') if readme.is_file() else ''


REQUIRED = [
    'torch>=2.4',
    'torchvision>=0.19',
    # The sdist of basicsr cannot be built on Python 3.13 (PEP 667), and it has no wheel. new-basicsr has one; its code
    # is the master branch of the same project. One of the two is installed, never both: they share an import name.
    "basicsr==1.4.2; python_version < '3.13'",
    "new-basicsr==1.0.0; python_version >= '3.13'",
    'lmdb>=1.4',
    'opencv-python>=4.8',
    'pyyaml>=6.0.1',
    'tb-nightly',
    'addict>=2.4',
    'numpy>=1.26',
    'scipy>=1.11,<2',  # SciPy 2.0 drops scipy.ndimage.filters, which basicsr 1.4.2 imports
    'tqdm>=4.66',
    'scikit-image>=0.22',  # BasicSR needs it as well; the demo's images are inside it
    'msgspec>=0.19',  # typed schemas of the option files
    'jinja2>=3.1',  # templates of the pages; torch needs it as well
    'safetensors>=0.4.3',  # weights files that cannot carry code
    'requests>=2.31',  # downloads of public datasets; BasicSR needs it as well
    'urllib3>=2.2',  # below requests; its read1 loses no byte of a cut transfer
    'pillow>=11.3',  # common image formats with profiles and metadata; AVIF since 11.3
    'tifffile>=2025.1',  # TIFF of 16 bits
    'imagecodecs>=2025.3.30',  # PNG of 16 bits, and compressions of TIFF
]
LPIPS = ['lpips>=0.1.4']  # a metric; the user provides its backbone's weights
REPORT = ['scikit-learn>=1.3']
ONNX = ['onnx>=1.17', 'onnxscript>=0.5', 'onnxruntime>=1.20']
OPENVINO = ['openvino>=2025.1', 'onnx>=1.17', 'onnxscript>=0.5']  # reads the ONNX files that torch writes
NCNN = ['ncnn>=1.0.20260114']  # faster inference on CPUs; as in dasr_arch/backends/ncnn_net.py
SPANDREL = ['spandrel>=0.4']
VIDEO = ['av>=18']  # display matrix, colour tags and chapters can be written
PARQUET = ['pyarrow>=18']  # manifests; the first with wheels for Python 3.13
RAY = [*PARQUET, 'ray[data]>=2.60']  # upscaling on a cluster
SERVE = [
    'fastapi>=0.165',  # routes of `dasr serve`, and their description
    'starlette>=1.6',  # HTTP below it
    'uvicorn>=0.40',
    'python-multipart>=0.0.20',  # forms with files
]
DOCS = [
    'mkdocs>=1.6,<2',  # the plugins use the interface of 1.x
    'mkdocstrings[python]>=1.0',  # the API from the docstrings
]
DEV = [
    *REPORT,
    *SERVE,
    *ONNX,  # the tests run the real libraries
    *OPENVINO,
    *NCNN,
    *SPANDREL,
    *VIDEO,
    *RAY,
    *DOCS,
    'build>=1.3',  # `make dist`
    'coverage>=7.10',
    'pytest>=9',
    'pytest-cov>=7',
    'pytest-timeout>=2.3',
    'pytest-xdist>=3.5',
    'hypothesis>=6.100',
    'ruff>=0.15',
    'mypy>=1.18',
    'types-PyYAML',
    'types-tqdm',
    'selenium>=4.20',  # drives Chromium for the tests of the web page
]

setup(
    name='dasr-representation-learning',
    version=read_version(),
    description=(
        'BasicSR plugin for DASR: Unsupervised Degradation Representation Learning '
        'for Blind Super-Resolution (CVPR 2021)'
    ),
    long_description=read_description(),
    long_description_content_type='text/markdown',
    license_expression='Apache-2.0',
    license_files=['LICENSE', 'NOTICE.md'],
    keywords='super-resolution, blind super-resolution, contrastive learning, BasicSR, DASR',
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Science/Research',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Topic :: Scientific/Engineering :: Image Processing',
        'Typing :: Typed',
    ],
    python_requires='>=3.11',
    packages=find_packages(include=['dasr_arch', 'dasr_arch.*', 'dasr_cli', 'dasr_cli.*']),
    package_data={
        'dasr_arch': [
            'py.typed',
            'assets/**/*',
            'benchmark/templates/*',
            'benchmark/published/*',
            'web/static/**/*',
        ],
        'dasr_cli': ['py.typed'],
    },
    install_requires=REQUIRED,
    extras_require={
        'report': REPORT,
        'onnx': ONNX,
        'openvino': OPENVINO,
        'ncnn': NCNN,
        'spandrel': SPANDREL,
        'video': VIDEO,
        'parquet': PARQUET,
        'ray': RAY,
        'serve': SERVE,
        'lpips': LPIPS,
        'docs': DOCS,
        'dev': list(dict.fromkeys(DEV)),
    },
    entry_points={'console_scripts': ['dasr = dasr_cli.main:main']},
    zip_safe=False,
)
