"""Parameters of requests and contents of answers, from which FastAPI derives the description of the API."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ModelWrapValidatorHandler, ValidationError, model_validator

from dasr_arch._errors import InputError, suggest
from dasr_arch.checkpoints.packaged import Setting
from dasr_arch.inference.images.io import SUFFIXES, OutputSettings
from dasr_arch.inference.target_size import TargetSize
from dasr_arch.web.problems import ProblemError

FORMATS = tuple(sorted({suffix[1:] for suffix in SUFFIXES}))
"""Values of ``format``."""

_OLD_PHASES = {'encoding': 'looking', 'upscaling': 'enlarging'}


# A text in Annotated says which values of a parameter are allowed, for messages about wrong ones.
_FLAG = 'true or false value'
_PIXELS = 'whole number of pixels, 1 or more'
Axis = Annotated[float, 'number above 0, at most 10']


class Parameters(BaseModel):
    """Parameters of both kinds of jobs."""

    model_config = ConfigDict(extra='forbid', frozen=True, allow_inf_nan=False)

    model: str | None = Field(
        None,
        description="Name of a model in /api/v1/models, a setting such as 'photo', or 'auto' for the setting that fits "
        'an upscaled image; the default model if absent',
    )
    scale: Annotated[int | None, 'whole number such as 4'] = Field(
        None, ge=1, le=8, description='Upsampling factor; 1 keeps the size; that of the model if absent'
    )
    strength: Annotated[float, 'number in [0, 2]'] = Field(
        1.0,
        ge=0,
        le=2,
        description='Strength of the adaptation: 0 uses the representation of a clean image, 1 that of this one',
    )
    ensemble: Annotated[bool, _FLAG] = Field(
        False, description='Self-ensemble over eight flips and rotations, at 8 times the time'
    )

    @model_validator(mode='wrap')
    @classmethod
    def _validate(cls, given: Mapping[str, Any], handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Validates texts of a query or form; empty ones count as absent.

        Raises ProblemError 422, naming the parameter, the allowed values and the given one.
        """
        try:
            return handler({name: text for name, text in given.items() if text != ''})
        except ValidationError as error:
            errors = {str(one['loc'][0]): one for one in error.errors()}
            for name, one in errors.items():
                if one['type'] == 'extra_forbidden':
                    if name in ('image', 'reference', 'mask'):
                        raise ProblemError(422, f"'{name}' must be a file of the form: curl -F {name}=@FILE") from error
                    hint = suggest(name, cls.model_fields)
                    raise ProblemError(422, f"there is no parameter '{name}'{hint}") from error
            name, one = next(iter(errors.items()))
            expected = next(item for item in cls.model_fields[name].metadata if isinstance(item, str))
            raise ProblemError(422, f"{name} must be a {expected}, got '{str(one['input'])[:40]}'") from error


class UpscaleParameters(Parameters):
    """Parameters of an upscaling."""

    to: str | None = Field(
        None, description='Width and height such as 3840x2160, inside which the result fits; `scale` may be absent then'
    )
    long_side: Annotated[int | None, _PIXELS] = Field(None, ge=1, description='Longer side of the result instead')
    short_side: Annotated[int | None, _PIXELS] = Field(None, ge=1, description='Shorter side of the result instead')
    tile: Annotated[int | None, 'whole number of pixels, 16 or more'] = Field(
        None, ge=16, le=65536, description='Side of a tile in LR pixels; the largest that fits into memory if absent'
    )
    exact: Annotated[bool, _FLAG] = Field(
        False, description='Pad tiles by the full receptive field, so that the result is identical to the untiled one'
    )
    format: str | None = Field(None, description='File format of the result; that of the image if absent')
    quality: Annotated[int | None, 'whole number in [1, 100]'] = Field(
        None, ge=1, le=100, description='Quality of JPEG, WebP and AVIF; 95 if absent'
    )
    name: str | None = Field(
        None,
        description="File name of the image, from which that of the result is derived; the uploaded file's if absent",
    )

    @property
    def factor(self) -> int | None:
        """Upsampling factor of the network, None if the size of the result decides."""
        return None if self.scale == 1 else self.scale

    def size(self) -> TargetSize | None:
        """Size of the result, None if it is that of the scale. Raises InputError if it is wrong."""
        try:
            return TargetSize.read(self.to, self.long_side, self.short_side, self.scale)
        except InputError as error:
            raise InputError(str(error).replace('--', '').replace('-side', '_side')) from error

    def output(self) -> OutputSettings:
        """File format and quality of the result. Raises InputError if there is no such format."""
        if self.format is None:
            return OutputSettings(None, self.quality)
        kind = SUFFIXES.get(f'.{self.format.lower().removeprefix(".")}')
        if kind is None:
            raise InputError(f"format must be one of {', '.join(FORMATS)}, got '{self.format}'")
        return OutputSettings(kind, self.quality)


class PlaygroundParameters(Parameters):
    """Parameters of an experiment with a known degradation."""

    sample: str | None = Field(
        None, description='Name of a sample image that /api/v1/samples lists, instead of an uploaded image'
    )
    blur: Annotated[Literal['iso', 'aniso'], 'choice of iso or aniso'] = Field(
        'iso', description='Gaussian blur: isotropic with `width`, or anisotropic with `axis_1`, `axis_2` and `theta`'
    )
    width: Annotated[float, 'number in [0, 10]'] = Field(
        2.4, ge=0, le=10, description='Kernel width of the isotropic blur in HR pixels; 0 is bicubic downsampling alone'
    )
    axis_1: Axis = Field(
        3.2, gt=0, le=10, description='Standard deviation along the first axis of the anisotropic kernel, HR pixels'
    )
    axis_2: Axis = Field(1.0, gt=0, le=10, description='Standard deviation along the second axis, HR pixels')
    theta: Annotated[float, 'angle in [-360, 360] degrees'] = Field(
        30.0, ge=-360, le=360, description='Angle of the first axis in degrees, clockwise'
    )
    noise: Annotated[float, 'number in [0, 100]'] = Field(
        0.0, ge=0, le=100, description='Noise level: standard deviation on the 0..255 scale'
    )
    seed: Annotated[int, 'whole number, 0 or more'] = Field(0, ge=0, le=2**31, description='Seed of the noise')


class _Content(BaseModel):
    """Base of all answers."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())


class Model(_Content):
    """A model."""

    name: str = Field(description='Value of the parameter `model`')
    scale: int = Field(description='Upsampling factor')
    setting: Setting | None = Field(description="Degradations of the training: 'general', 'iso' or 'photo'")
    purpose: str = Field(description='The setting in words')
    parameters: int | None = Field(description='Number of parameters')
    trained_on: str = Field(description='Training images')
    date: str = Field(description='Day on which the training ended')
    default: bool = Field(description='Marks the model that is used if none is requested')


class ServerLimits(_Content):
    """Limits of the server."""

    upload_bytes: int = Field(description='Largest body of a request')
    pixels: int = Field(description='Largest image in LR pixels, all frames together')
    jobs: int = Field(description='Number of jobs that run at the same time')
    queue: int = Field(description='Number of jobs that may wait')
    keep_seconds: float = Field(description='Seconds for which results are kept')


class Models(_Content):
    """Models, formats and limits."""

    models: list[Model] = Field(description='Models that can be requested')
    formats: list[str] = Field(description='Values of the parameter `format`')
    limits: ServerLimits = Field(description='Limits of the server')
    device: str = Field(description="Device that computes, such as 'cpu'")


class Sample(_Content):
    """A sample image of the playground."""

    name: str = Field(description='Value of the parameter `sample`')
    content: str = Field(description='Description of the image')
    licence: str = Field(description='Licence of the image')
    width: int = Field(description='Width in pixels of the part that is used')
    height: int = Field(description='Height of the part')


class Samples(_Content):
    """The sample images."""

    samples: list[Sample] = Field(description='Empty if scikit-image was installed without its images')


class Health(_Content):
    """State of the server."""

    status: Literal['ok'] = Field(default='ok', description="Always 'ok'")
    version: str = Field(description='Version of the package')
    running: int = Field(description='Number of running jobs')
    waiting: int = Field(description='Number of waiting jobs')


class ProblemDetails(_Content):
    """An error (RFC 9457)."""

    type: str = Field(description="Always 'about:blank'")
    title: str = Field(description='Name of the status code')
    status: int = Field(description='HTTP status code')
    detail: str = Field(description='One sentence: the cause, and what was expected')


class UpscaleResult(_Content):
    """Result of an upscaling."""

    name: str = Field(description='File name')
    media_type: str = Field(description='Media type of the file')
    bytes: int = Field(description='Size of the file')
    width: int = Field(description='Width in pixels')
    height: int = Field(description='Height in pixels')
    frames: int = Field(description='Number of frames of an animation, or of pages')
    notes: list[str] = Field(description='What the result lacks, or how it was changed, each in one line')
    model: str = Field(description='Name of the model')
    scale: int = Field(description='Upsampling factor of the network')
    reason: str = Field(description='Why the model was used')
    seconds: float = Field(description='Duration of the job')


class Point(_Content):
    """A place on the map of representations."""

    x: float = Field(description='Coordinate along the first principal component')
    y: float = Field(description='Coordinate along the second principal component')
    label: str = Field(description="Label of the degradation, such as 'sigma 2.4, noise 10'")
    width: float = Field(
        description='Kernel width in HR pixels; of an anisotropic kernel the geometric mean of its axes'
    )
    noise: float = Field(description='Noise level')
    aniso: bool = Field(description='True for an anisotropic kernel')
    image: str = Field(description="Name of the sample image; '' for the image of the experiment")
    picture: str = Field(
        default_factory=lambda known: str(known['image']), deprecated=True, description='Old name of `image`'
    )


class RepresentationMapResult(_Content):
    """Place of a representation among those of known degradations."""

    here: Point = Field(description='The experiment')
    own: list[Point] = Field(description='The image of the experiment under each known degradation')
    others: list[Point] = Field(description='The sample images under each known degradation')
    nearest: list[str] = Field(
        description='Labels of the known degradations with the nearest representations of this image, nearest first'
    )
    share: float = Field(description='Share of the variance that the two axes explain, 0 to 1')


class PlaygroundResult(_Content):
    """Result of an experiment; its images are at /api/v1/jobs/{id}/images/{image}."""

    images: list[str] = Field(description='Names of the images: hr, lq, bicubic, sr')
    pictures: list[str] = Field(
        default_factory=lambda known: list(known['images']), deprecated=True, description='Old name of `images`'
    )
    label: str = Field(description='Label of the degradation')
    width: int = Field(description='Width of the HR image in pixels')
    height: int = Field(description='Height of the HR image')
    cropped: bool = Field(description='True if the HR image is the middle of a larger image')
    kernel: list[list[float]] = Field(description='Blur kernel, rows of numbers that sum to 1')
    psnr_bicubic: float | None = Field(
        description='PSNR of bicubic upsampling in dB on Y, borders of `scale` pixels cropped; null for equal images'
    )
    psnr_sr: float | None = Field(description='PSNR of the model, likewise')
    map: RepresentationMapResult = Field(description='Map of representations')
    model: str = Field(description='Name of the model')
    scale: int = Field(description='Upsampling factor')
    seconds: float = Field(description='Duration of the job')


class JobStatus(_Content):
    """State of a job."""

    id: str = Field(description='Last part of its address')
    kind: Literal['upscale', 'playground'] = Field(description='Kind of its result')
    name: str = Field(description='File name of the image, or name of the sample')
    state: Literal['queued', 'running', 'done', 'failed'] = Field(description='State of the job')
    phase: str = Field(description='Current step: waiting, reading, encoding, upscaling, writing or mapping')
    stage: str = Field(
        default_factory=lambda known: _OLD_PHASES.get(known['phase'], str(known['phase'])),
        deprecated=True,
        description='Old name of `phase`, with looking for encoding and enlarging for upscaling',
    )
    progress: float = Field(description='Share of the work that is done, 0 to 1; 1 only when the result is there')
    seconds_left: float | None = Field(description='Estimated seconds until the end; null while unknown')
    ahead: int = Field(description='Number of jobs that run before it')
    expires_in: float | None = Field(description='Seconds until a finished job is deleted')
    error: ProblemDetails | None = Field(description='Cause of a failure')
    upscale: UpscaleResult | None = Field(description='Result of an upscaling')
    playground: PlaygroundResult | None = Field(description='Result of an experiment')
