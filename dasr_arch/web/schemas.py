"""What requests may say, and what answers hold; the OpenAPI description is made from these types."""

import inspect
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar, get_args, get_type_hints

import msgspec
from msgspec import Meta, Struct

from dasr_arch._errors import InputError, suggest
from dasr_arch.inference.images.io import SUFFIXES, OutputSettings
from dasr_arch.inference.tiling import Tiling

FORMATS = tuple(sorted({suffix[1:] for suffix in SUFFIXES}))
"""Values of ``format``."""

Width = Annotated[float, Meta(ge=0, le=10, description='number in [0, 10]')]
Axis = Annotated[float, Meta(gt=0, le=10, description='number above 0, at most 10')]
Strength = Annotated[float, Meta(ge=0, le=2, description='number in [0, 2]')]
Scale = Annotated[int, Meta(ge=1, le=8, description='whole number such as 4')]
P = TypeVar('P', bound='Parameters')


class Parameters(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What both kinds of jobs take.

    Attributes:
        model: name of a model that /api/v1/models lists, or a setting such as 'iso'; the default model if left out.
        scale: factor; that of the model if left out.
        strength: 1 adapts to the image's own degradation, 0 to a clean image; up to 2.
        ensemble: average over eight turned copies, for 8 times the time.
    """

    model: str | None = None
    scale: Scale | None = None
    strength: Strength = 1.0
    ensemble: bool = False


class UpscaleParameters(Parameters, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an upscaling takes.

    Attributes:
        tile: side of a tile in pixels of the image, at most what the memory has room for; that if left out.
        exact: margins as wide as the network sees, so that tiles change nothing.
        format: of the result; that of the image if left out.
        quality: of JPEG, WebP and AVIF; 95 if left out.
        name: of the image, from which that of the result is made; the uploaded file's if left out.
    """

    tile: Annotated[int, Meta(ge=16, le=65536, description='whole number of pixels, 16 or more')] | None = None
    exact: bool = False
    format: str | None = None
    quality: Annotated[int, Meta(ge=1, le=100, description='whole number in [1, 100]')] | None = None
    name: str | None = None

    def tiling(self) -> Tiling:
        """How images are cut."""
        return Tiling(self.tile, self.exact)

    def output(self) -> OutputSettings:
        """How the result is written.

        Raises:
            InputError: if there is no such format.
        """
        if self.format is None:
            return OutputSettings(None, self.quality)
        kind = SUFFIXES.get(f'.{self.format.lower().removeprefix(".")}')
        if kind is None:
            raise InputError(f"format must be one of {', '.join(FORMATS)}, got '{self.format}'")
        return OutputSettings(kind, self.quality)


class PlaygroundParameters(Parameters, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an experiment with a known degradation takes.

    Attributes:
        sample: name of a sample image that /api/v1/samples lists, instead of an uploaded one.
        blur: 'iso' for even blur of a width, 'aniso' for axes and an angle.
        width: of the even blur, HR pixels; 0 is plain bicubic down-sampling.
        axis_1: deviation along the first axis, HR pixels.
        axis_2: deviation across it, HR pixels.
        theta: angle of the first axis in degrees, clockwise.
        noise: standard deviation of the noise in grey levels of 0..255.
        seed: of the noise.
    """

    sample: str | None = None
    blur: Literal['iso', 'aniso'] = 'iso'
    width: Width = 2.4
    axis_1: Axis = 3.2
    axis_2: Axis = 1.0
    theta: Annotated[float, Meta(ge=-360, le=360, description='angle in [-360, 360] degrees')] = 30.0
    noise: Annotated[float, Meta(ge=0, le=100, description='number in [0, 100]')] = 0.0
    seed: Annotated[int, Meta(ge=0, le=2**31, description='whole number, 0 or more')] = 0


class Model(Struct, frozen=True):
    """A model.

    Attributes:
        name: what ``model`` says.
        scale: factor.
        setting: what it was trained for.
        purpose: the same in words.
        parameters: how many numbers it learned.
        trained_on: the images of its training.
        date: day of the training's end.
        default: whether it is taken when no model is asked for.
    """

    name: str
    scale: int
    setting: str | None
    purpose: str
    parameters: int | None
    trained_on: str
    date: str
    default: bool


class ServerLimits(Struct, frozen=True):
    """How much the server takes.

    Attributes:
        upload_bytes: largest body of a request.
        pixels: largest image, all frames together.
        jobs: jobs that are computed at the same time.
        queue: jobs that may wait besides.
        keep_seconds: how long results are kept.
    """

    upload_bytes: int
    pixels: int
    jobs: int
    queue: int
    keep_seconds: float


class Models(Struct, frozen=True):
    """Everything that can be asked for.

    Attributes:
        models: the models.
        formats: values of ``format``.
        limits: how much the server takes.
        device: what it computes on.
    """

    models: list[Model]
    formats: list[str]
    limits: ServerLimits
    device: str


class Sample(Struct, frozen=True):
    """A sample image of the playground.

    Attributes:
        name: what ``sample`` says.
        content: what it shows.
        licence: under which terms it is free.
        width: of the part that is used, pixels.
        height: of the part.
    """

    name: str
    content: str
    licence: str
    width: int
    height: int


class Samples(Struct, frozen=True):
    """The sample images.

    Attributes:
        samples: empty where scikit-image was installed without its images.
    """

    samples: list[Sample]


class Health(Struct, frozen=True):
    """Whether the server works.

    Attributes:
        status: always 'ok'.
        version: of the package.
        running: jobs that are computed.
        waiting: jobs that wait.
    """

    status: Literal['ok']
    version: str
    running: int
    waiting: int


class ProblemDetails(Struct, frozen=True):
    """What is wrong (RFC 9457).

    Attributes:
        type: always 'about:blank'.
        title: name of the status code.
        status: the HTTP status code.
        detail: one sentence: what was wrong, and what was expected.
    """

    type: str
    title: str
    status: int
    detail: str


class UpscaleResult(Struct, frozen=True):
    """What an upscaling made.

    Attributes:
        name: of the file.
        media_type: of the file.
        bytes: of the file.
        width: pixels.
        height: pixels.
        frames: of an animation, or pages.
        model: what was used.
        scale: factor.
        seconds: that it took.
    """

    name: str
    media_type: str
    bytes: int
    width: int
    height: int
    frames: int
    model: str
    scale: int
    seconds: float


class Point(Struct, frozen=True):
    """A place on the map.

    Attributes:
        x: along the first principal component.
        y: along the second.
        label: the degradation, such as 'width 2.4, noise 10'.
        width: of its blur in HR pixels; of an anisotropic one the geometric mean of the axes.
        noise: its noise level.
        aniso: whether the blur is anisotropic.
        image: name of the sample image; '' for the image of the experiment.
    """

    x: float
    y: float
    label: str
    width: float
    noise: float
    aniso: bool
    image: str


class RepresentationMapResult(Struct, frozen=True):
    """Where a representation lies among those of known degradations.

    Attributes:
        here: the experiment.
        own: the same image under each known degradation.
        others: the sample images under each known degradation.
        nearest: labels of the known degradations whose representations of this image are nearest, nearest first.
        share: of the variance of these differences that the two axes show, 0 to 1.
    """

    here: Point
    own: list[Point]
    others: list[Point]
    nearest: list[str]
    share: float


class PlaygroundResult(Struct, frozen=True):
    """What an experiment gave; its images are at /api/v1/jobs/{id}/images/{name}.

    Attributes:
        images: names of the images: hr, lq, bicubic, sr.
        label: the degradation.
        width: of the HR image, pixels.
        height: of the HR image.
        cropped: whether it is the middle of a larger image.
        kernel: the blur kernel, rows of numbers that sum to 1.
        psnr_bicubic: PSNR of Bicubic in dB on luma, without as many pixels as the scale on each side; None for equal
            images.
        psnr_sr: the same of the model.
        map: where the representation lies.
        model: what was used.
        scale: factor.
        seconds: that it took.
    """

    images: list[str]
    label: str
    width: int
    height: int
    cropped: bool
    kernel: list[list[float]]
    psnr_bicubic: float | None
    psnr_sr: float | None
    map: RepresentationMapResult
    model: str
    scale: int
    seconds: float


class JobStatus(Struct, frozen=True):
    """How far a job is.

    Attributes:
        id: last part of its address.
        kind: what it makes.
        name: of the image.
        state: queued, running, done or failed.
        stage: what is being done.
        progress: share of the work that is done; 1 when the result is there.
        seconds_left: None while nobody can tell.
        ahead: how many jobs come first.
        expires_in: seconds until a finished job is forgotten.
        error: why it failed.
        upscale: what an upscaling made.
        playground: what an experiment gave.
    """

    id: str
    kind: Literal['upscale', 'playground']
    name: str
    state: Literal['queued', 'running', 'done', 'failed']
    stage: str
    progress: float
    seconds_left: float | None
    ahead: int
    expires_in: float | None
    error: ProblemDetails | None
    upscale: UpscaleResult | None
    playground: PlaygroundResult | None


def parse_parameters(kind: type[P], given: Mapping[str, str]) -> P:
    """Parameters from the texts of a query or form; empty ones count as left out.

    Args:
        kind: what is expected.
        given: texts by name.

    Raises:
        InputError: naming the parameter, what was expected and what came.
    """
    texts = {name: text for name, text in given.items() if text != ''}
    known = kind.__struct_fields__
    for name in texts:
        if name not in known:
            raise InputError(f"there is no parameter '{name}'{suggest(name, known)}")
    for name, text in texts.items():
        try:
            msgspec.convert({name: text}, kind, strict=False)
        except msgspec.ValidationError as error:
            expected = _describe(get_type_hints(kind, include_extras=True)[name])
            raise InputError(f"{name} must be a {expected}, got '{text[:40]}'") from error
    return msgspec.convert(texts, kind, strict=False)


def describe_fields(kind: type[Struct]) -> dict[str, str]:
    """What the docstrings of a type and its bases say of each attribute."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        doc = inspect.cleandoc(base.__doc__ or '') if issubclass(base, Struct) else ''
        name = ''
        for line in doc.partition('Attributes:\n')[2].splitlines():
            head, colon, text = line.strip().partition(': ')
            if colon and head in kind.__struct_fields__ and line.startswith('    ') and line[4] != ' ':
                name = head
                found[name] = text
            elif name and line.strip():
                found[name] += f' {line.strip()}'
    return {name: text.replace('``', '') for name, text in found.items()}


def _describe(hint: Any) -> str:
    """The kind of value that an annotation asks for, in words."""
    for part in (hint, *get_args(hint)):
        for meta in getattr(part, '__metadata__', ()):
            if isinstance(meta, Meta) and meta.description:
                return meta.description
    if hint is bool:
        return 'true or false value'
    choices = [value for value in get_args(hint) if isinstance(value, str)]
    return f'choice of {" or ".join(choices)}' if choices else 'text'
