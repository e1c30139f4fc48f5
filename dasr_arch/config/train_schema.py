"""Sections and keys of a training file, with their types, units, ranges and defaults.

The only place of each: a field that is added here is read, checked, documented and given to the model, which reads it
from its `settings`. Sections keep BasicSR's names and order. Free mappings (network_g, a loss, a degradation) are
validated against their class in `registry_checks.py`. Defaults of a network, loss or degradation are those of its
constructor.
"""

from itertools import pairwise
from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import astuple

Count = Annotated[int, Meta(ge=1)]
WholeNumber = Annotated[int, Meta(ge=0)]
Seed = Annotated[int, Meta(ge=0, lt=1 << 31, description='a whole number from 0 to 2147483647')]
Positive = Annotated[float, Meta(gt=0)]
NotNegative = Annotated[float, Meta(ge=0)]
Decay = Annotated[float, Meta(ge=0, lt=1)]
Name = Annotated[
    str,
    Meta(
        pattern=r'^\w[\w.+-]{0,99}$',
        description='a name of letters, digits, _ . + - (at most 100, no slash, no space, a letter, digit or _ first)',
    ),
]
Folders = Annotated[str, Meta(min_length=1)] | Annotated[list[str], Meta(min_length=1)]
Mapping = dict[str, object]


class Options(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """Base of all structures: keys by name, no unknown ones, read only."""

    renamed: ClassVar[dict[str, str]] = {}  # deprecated names of keys, accepted with a warning, and those of today


class LoaderOptions(Options, kw_only=True, frozen=True):
    """Keys of every training set."""

    name: Name  # in logs and in folders: experiments/NAME of a training, visualization/NAME of a validation set
    type: str
    num_worker_per_gpu: Annotated[int, Meta(ge=0, le=1024)] = 0  # processes
    batch_size_per_gpu: Count  # images
    scale: Count | None = None  # that of the whole training


class DegradationDatasetOptions(LoaderOptions, kw_only=True, frozen=True):
    """Training on HR images that are degraded on the fly."""

    dataroot_gt: Folders  # HR images: folder, LMDB or a list of them
    gt_size: Count  # side of a patch, HR pixels
    use_hflip: bool = True  # random horizontal flips
    use_rot: bool = True  # random rotations by 90 degrees
    resize_range: tuple[Positive, Positive] | None = None  # factors that HR images are resized by
    crop_first: bool = False  # crop, then degrade, as the released code; else degrade, then crop, as the paper
    degradation: Mapping  # type and parameters, see training.md
    degrade_on: Literal['device', 'worker'] = 'device'  # where the model computes, or in the loading processes
    num_patches: Count | UnsetType = UNSET  # of each image: 2 if absent (degrade_on: worker: 1); contrast needs 2
    cache_mib: WholeNumber = 512  # MiB of decoded images that each loading process keeps
    images_on: Literal['auto', 'device', 'host'] = (
        'auto'  # decoded images in GPU memory, where they fit, or main memory
    )
    seed: Seed | UnsetType = UNSET  # of crops and degradations; manual_seed by default


class LQDatasetOptions(LoaderOptions, kw_only=True, frozen=True):
    """Training the encoder on LR images alone."""

    dataroot_lq: Folders  # LR images: folder, LMDB or a list of them
    lq_size: Count  # side of a patch, LR pixels
    use_hflip: bool = True  # random horizontal flips
    use_rot: bool = True  # random rotations by 90 degrees
    cache_mib: WholeNumber = 512  # MiB of decoded images that each loading process keeps
    seed: Seed | UnsetType = UNSET  # of crops and degradations; manual_seed by default


class DegradedTestDatasetOptions(Options, kw_only=True, frozen=True):
    """Validation on HR images under fixed degradations."""

    renamed: ClassVar[dict[str, str]] = {'max_pictures': 'max_images'}

    name: Name  # in logs and in folders: experiments/NAME of a training, visualization/NAME of a validation set
    type: str
    dataroot_gt: Folders  # HR images: folder, LMDB or a list of them
    degradation: Mapping | Annotated[list[Mapping], Meta(min_length=1)]
    seed: Seed = 0  # of the noise
    max_images: Count | None = None  # number of images, from the first on
    scale: Count | None = None  # that of the whole training


class ForeignDatasetOptions(Options, kw_only=True, frozen=True):
    """Keys that data sets of BasicSR share; further keys are not checked."""

    name: Name  # in logs and in folders: experiments/NAME of a training, visualization/NAME of a validation set
    type: str
    dataroot_gt: Folders | UnsetType = UNSET
    dataroot_lq: Folders | UnsetType = UNSET
    io_backend: Mapping | UnsetType = UNSET
    scale: Count | None = None  # that of the whole training


class ForeignTrainSetOptions(LoaderOptions, kw_only=True, frozen=True):
    """Keys that training sets of BasicSR share; further keys are not checked."""

    dataroot_gt: Folders | UnsetType = UNSET
    dataroot_lq: Folders | UnsetType = UNSET
    io_backend: Mapping | UnsetType = UNSET
    gt_size: Count | UnsetType = UNSET
    use_hflip: bool | UnsetType = UNSET
    use_rot: bool | UnsetType = UNSET
    dataset_enlarge_ratio: Count = 1
    pin_memory: bool | UnsetType = UNSET
    persistent_workers: bool | UnsetType = UNSET
    prefetch_mode: Literal['cpu', 'cuda'] | None = None
    num_prefetch_queue: Count | UnsetType = UNSET


class PathOptions(Options, kw_only=True, frozen=True):
    """Files that training starts from."""

    pretrain_network_g: str | None = None  # weights to start from, ours or the authors'
    pretrain_network_encoder: str | None = None  # weights of the encoder alone, for DASRModel
    param_key_g: str | None = None  # state dict of the file: params, params_ema; by default the averaged one
    strict_load_g: bool = True  # every tensor must fit
    resume_state: str | None = None  # training state to continue from


class StageOptions(Options, kw_only=True, frozen=True):
    """Length and learning rate of one stage."""

    total_iter: WholeNumber  # iterations; 0 leaves the stage out
    lr: Positive  # at the start
    schedule: Literal['step', 'cosine'] = 'step'  # times gamma at each milestone, or half a cosine down to lr_min
    milestones: list[Count] = []  # iterations from the start of the stage, after which the rate changes
    gamma: Annotated[float, Meta(gt=0, le=1)] = 0.1  # factor of the learning rate at a milestone
    lr_min: NotNegative = 0.0  # at the end of cosine
    periods: Count = 1  # equal parts, in each of which cosine starts anew
    warmup_iter: WholeNumber = 0  # iterations in which the rate first rises from zero

    def __post_init__(self) -> None:
        if any(first >= second for first, second in pairwise(self.milestones)):
            raise ValueError(f'milestones must increase, got {self.milestones}')
        if self.total_iter and self.milestones and self.milestones[-1] >= self.total_iter:
            raise ValueError(
                f'milestones must lie inside the stage of {self.total_iter} iterations (they count from its start), '
                f'got {self.milestones}'
            )
        if self.warmup_iter > self.total_iter:
            raise ValueError(f'warmup_iter must not exceed total_iter {self.total_iter}, got {self.warmup_iter}')
        if self.lr_min > self.lr:
            raise ValueError(f'lr_min must not exceed lr {self.lr:g}, got {self.lr_min:g}')
        if self.schedule == 'cosine' and self.milestones:
            raise ValueError("schedule 'cosine' has no milestones; remove them or write schedule: step")
        if self.schedule != 'cosine' and self.periods != 1:
            raise ValueError("periods belong to schedule 'cosine'; remove them or write schedule: cosine")


class OptimizerOptions(Options, kw_only=True, frozen=True):
    """The optimiser, one for both stages; learning rates stand in the stages."""

    type: Literal['Adam', 'AdamW'] = 'Adam'
    betas: tuple[Decay, Decay] = (0.9, 0.999)  # of Adam
    eps: Positive = 1e-8  # of Adam
    weight_decay: NotNegative = 0.0  # of the optimiser


class ContrastOptions(Options, kw_only=True, frozen=True):
    """Contrastive loss of the encoder."""

    loss_weight: NotNegative = 1.0  # factor of the loss
    queue_length: Annotated[int, Meta(ge=1, le=1 << 24)] = 8192  # keys, released code
    momentum: Annotated[float, Meta(ge=0, le=1)] = 0.999  # of the key encoder, released code
    temperature: Positive = 0.07  # divisor of the logits, released code
    positives: Literal['same', 'other'] = 'same'  # patches of one image, or of two images with the same degradation


class CodeOptions(Options, kw_only=True, frozen=True):
    """Regression of the known degradation from the representation, in training alone."""

    loss_weight: NotNegative = 1.0  # factor of the loss
    kernel: Literal['widths', 'components'] = 'widths'  # width matrix, or coefficients of principal components
    components: Annotated[int, Meta(ge=1, le=225)] = 10  # coefficients of the kernel, for kernel: components
    jpeg_quality: bool = False  # the quality of JPEG or WebP as well
    level: bool = False  # the level of Photographic as well


class FilterOptions(Options, kw_only=True, frozen=True):
    """Loss on the filter of ``network_g.skip: wiener`` against that of the known degradation, in training alone."""

    loss_weight: NotNegative = 5.0  # the loss is in decibels


class TeacherOptions(Options, kw_only=True, frozen=True):
    """Distillation of the encoder from a teacher that is given HR images, in training alone."""

    loss_weight: NotNegative = 1.0  # factor of the loss
    temperature: Positive = 0.15  # of the softmax of both representations


class MetaOptions(Options, kw_only=True, frozen=True):
    """Tasks and loops of MZSR's meta-training."""

    support: Count = 8  # images of a task in the inner loop
    query: Count = 8  # images of a task in the outer loss
    inner_steps: Count = 5  # gradient steps of the inner loop
    inner_lr: Positive = 0.01  # learning rate of the inner loop
    second_order: bool = True  # gradients through the inner steps, paper
    loss_weights: Literal['anneal', 'uniform'] = (
        'anneal'  # of the inner steps; anneal: equal at first, in the end the last alone, paper
    )
    anneal_iter: Count = 3333  # iterations


class AdaptationOptions(Options, kw_only=True, frozen=True):
    """MZSR's adaptation to an image of the validation, with the defaults of a test."""

    steps: WholeNumber = 10  # gradient steps; the paper shows 1 and 10
    # The authors' learning rates for bicubic downsampling at x2; at x4 with direct downsampling they use 0.01, 0.005,
    # 0.005, 0.005, 0.005, 0.001.
    rates: list[Positive] = msgspec.field(default_factory=lambda: [0.01, 0.01, 0.01, 0.001])  # the last is repeated
    back_projections: WholeNumber = 0  # iterations after the last step; the authors have them, switched off

    def __post_init__(self) -> None:
        if not self.rates:
            raise ValueError('rates must hold at least one number')


class TrainOptions(Options, kw_only=True, frozen=True):
    """Section `train` of every model of ours."""

    total_iter: Count  # iterations, the sum of the stages; in BasicSR's own script an upper limit
    precision: Literal['auto', 'fp32', 'tf32', 'bf16'] = 'auto'  # tf32: fp32, but for convolutions on a GPU
    ema_decay: Decay = 0.0  # of the averaged weights; 0 is off
    optim_g: OptimizerOptions = OptimizerOptions()
    pixel_opt: Mapping | None = None

    @property
    def stages(self) -> list[StageOptions]:
        """The stages in their order."""
        return [value for value in astuple(self) if isinstance(value, StageOptions)]


class CommonTrainOptions(TrainOptions, kw_only=True, frozen=True):
    """Section `train` of every model of ours but MZSR's, whose inner loop takes whole tasks in float32."""

    accumulate: Count = 1  # parts that a batch is computed in, to save memory
    sync_batchnorm: bool = False  # batch statistics are those of all processes together


class DASRTrainOptions(CommonTrainOptions, kw_only=True, frozen=True):
    """The two stages of DASR: the encoder alone, then everything."""

    stage_1: StageOptions
    stage_2: StageOptions
    compile: bool = False  # the networks through torch.compile
    contrast_opt: ContrastOptions | None = ContrastOptions()
    code_opt: CodeOptions | None = None
    filter_opt: FilterOptions | None = None
    teacher_opt: TeacherOptions | None = None
    freeze_encoder: bool = False  # the encoder is not trained in stage 2

    def __post_init__(self) -> None:
        has_loss = any(part is not None for part in (self.contrast_opt, self.code_opt, self.filter_opt))
        if self.teacher_opt is not None and (
            has_loss or self.freeze_encoder or 0 in (self.stage_1.total_iter, self.stage_2.total_iter)
        ):
            raise ValueError(
                'teacher_opt: the encoder learns in stage 2 from its teacher alone, which stage 1 trains; write '
                'contrast_opt: ~, code_opt: ~, filter_opt: ~, freeze_encoder: false and numbers above 0 for both '
                'total_iter'
            )
        if self.freeze_encoder and has_loss and self.stage_1.total_iter == 0:
            raise ValueError(
                'freeze_encoder: a frozen encoder cannot be trained; write contrast_opt: ~, code_opt: ~ and '
                'filter_opt: ~, or a number above 0 for stage_1.total_iter'
            )
        if self.stage_1.total_iter and not has_loss and self.teacher_opt is None:
            raise ValueError(
                'stage_1 trains the encoder by contrast and needs contrast_opt; or set its total_iter to 0'
            )
        if (self.stage_2.total_iter or self.teacher_opt is not None) and not self.pixel_opt:
            raise ValueError('stage_2 needs pixel_opt; write pixel_opt: {type: L1Loss, loss_weight: 255}')


class ValOptions(Options, kw_only=True, frozen=True):
    """Validation during training."""

    val_freq: Count  # iterations
    save_img: bool = False  # write the images of the validation
    metrics: dict[str, Mapping] | None = None  # label: type and arguments


class LoggerOptions(Options, kw_only=True, frozen=True):
    """Intervals of reports and checkpoints, in iterations."""

    print_freq: Count = 100  # between lines of the log
    save_checkpoint_freq: Count = 5000  # between checkpoints
    keep_checkpoints: WholeNumber = 3  # 0 = all
    use_tb_logger: bool = False  # TensorBoard events in tb_logger/


class DistributedOptions(Options, kw_only=True, frozen=True):
    """Communication between processes."""

    backend: Literal['auto', 'gloo', 'nccl'] = 'auto'  # auto: nccl on GPUs, gloo on CPUs
    timeout: Positive = 1800.0  # seconds


class ImportOptions(Options, kw_only=True, frozen=True):
    """A training or test file, as far as it is read before its classes are known."""

    imports: list[str] | None = None  # modules of your own that register classes, see training.md


class GeneralOptions(ImportOptions, kw_only=True, frozen=True):
    """The top level of a file for any model; datasets and train are checked by what they are for."""

    name: Name  # in logs and in folders: experiments/NAME of a training, visualization/NAME of a validation set
    model_type: str  # a registered model
    scale: Count  # upscaling factor
    num_gpu: WholeNumber | Literal['auto'] = 'auto'  # 0: CPU
    manual_seed: Seed = 0  # of initial weights and training data
    datasets: Mapping
    network_g: Mapping
    path: PathOptions = PathOptions()
    train: Mapping
    val: ValOptions | None = None
    logger: LoggerOptions = LoggerOptions()
    dist_params: DistributedOptions = DistributedOptions()

    def __post_init__(self) -> None:
        if 'debug' in self.name:
            raise ValueError(f"name must not contain 'debug', on which BasicSR changes its mode, got '{self.name}'")


class ForeignTrainOptions(Options, kw_only=True, frozen=True):
    """Section `train` of BasicSR's models; further keys are not checked."""

    total_iter: Count
    warmup_iter: int = -1
    ema_decay: Decay = 0.0
    optim_g: Mapping
    scheduler: Mapping
    pixel_opt: Mapping | None = None
    perceptual_opt: Mapping | None = None


class AdversarialOptions(GeneralOptions, kw_only=True, frozen=True):
    """The top level of a training file of BasicSR's models with a discriminator."""

    network_d: Mapping


class AdversarialTrainOptions(ForeignTrainOptions, kw_only=True, frozen=True):
    """Section `train` of BasicSR's models with a discriminator; further keys are not checked."""

    optim_d: Mapping
    gan_opt: Mapping
    net_d_iters: Count = 1  # the generator learns in every such iteration
    net_d_init_iters: WholeNumber = 0  # the discriminator learns alone until then


ADVERSARIAL_MODELS = ('SRGANModel', 'ESRGANModel')
"""BasicSR's models for single images that have a discriminator."""


class SupervisedTrainOptions(CommonTrainOptions, kw_only=True, frozen=True):
    """Training any arch on the degradations of our data sets, with a pixel loss alone, in one stage."""

    schedule: StageOptions
    compile: bool = False  # the network through torch.compile
    pixel_opt: Mapping
    lr_factors: dict[str, Positive] = msgspec.field(default_factory=dict)  # by the beginning of parameters' names
    multi_stage: bool = False  # the loss is summed over all stages' images
    loss_on: Literal['rgb', 'luma'] = 'rgb'  # what of both images is compared


class IKCTrainOptions(CommonTrainOptions, kw_only=True, frozen=True):
    """IKC's three stages: SFTMD with true kernels, Predictor alone, Predictor and Corrector."""

    stage_1: StageOptions
    stage_2: StageOptions
    stage_3: StageOptions
    pixel_opt: Mapping
    corrections: Count = 7  # steps of the Corrector in an iteration


class MZSRTrainOptions(TrainOptions, kw_only=True, frozen=True):
    """MZSR's meta-training; the inner loop needs float32."""

    precision: Literal['fp32'] = 'fp32'  # the inner loop needs float32
    schedule: StageOptions
    pixel_opt: Mapping
    meta_opt: MetaOptions = MetaOptions()
    adaptation: AdaptationOptions = AdaptationOptions()


class MultiStepOptions(Options, kw_only=True, frozen=True):
    """BasicSR's steps; milestones count from the start of the training."""

    type: str
    milestones: list[Count]
    gamma: Annotated[float, Meta(gt=0, le=1)] = 0.1  # factor of the learning rate at a milestone
    restarts: list[WholeNumber] | UnsetType = UNSET
    restart_weights: list[Positive] | UnsetType = UNSET


class CosineOptions(Options, kw_only=True, frozen=True):
    """BasicSR's cosines with restarts."""

    type: str
    periods: Annotated[list[Count], Meta(min_length=1)]
    restart_weights: list[Positive] | UnsetType = UNSET
    eta_min: NotNegative = 0.0


class RateOptions(Options, kw_only=True, frozen=True):
    """Keys of every optimiser of BasicSR's models."""

    type: str
    lr: Positive


SCHEDULE_OPTIONS: dict[str, type[Options]] = {
    'MultiStepLR': MultiStepOptions,
    'MultiStepRestartLR': MultiStepOptions,
    'CosineAnnealingRestartLR': CosineOptions,
}
"""Schedules of BasicSR's models."""

TRAIN_OPTIONS: dict[str, type[TrainOptions]] = {
    'DASRModel': DASRTrainOptions,
    'IKCModel': IKCTrainOptions,
    'MZSRModel': MZSRTrainOptions,
    'SupervisedModel': SupervisedTrainOptions,
}
"""The train section of our own models; a model that is not here is BasicSR's or somebody else's."""


def find_own_model(model: type) -> str:
    """The name in TRAIN_OPTIONS of a model or of the nearest class that it derives from; empty if there is none."""
    return next((kind.__name__ for kind in model.__mro__ if kind.__name__ in TRAIN_OPTIONS), '')


DATASET_OPTIONS: dict[str, type[Options]] = {
    'DegradationDataset': DegradationDatasetOptions,
    'DegradedTestDataset': DegradedTestDatasetOptions,
    'LQDataset': LQDatasetOptions,
}
"""Our own datasets."""
