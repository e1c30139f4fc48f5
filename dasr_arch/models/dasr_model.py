"""DASR training in two stages: the degradation encoder alone, then encoder and SR network.

Wang et al., Unsupervised Degradation Representation Learning for Blind Super-Resolution, CVPR 2021, section 4.1.
"""

from collections.abc import Mapping
from typing import Any

import torch
from basicsr.utils import get_root_logger
from msgspec.structs import asdict
from torch import Tensor, nn
from torch.nn import functional

from dasr_arch._errors import InputError
from dasr_arch._registration import MODEL_REGISTRY
from dasr_arch.checkpoints.io import load_encoder, load_fitting, read_dasr_weights
from dasr_arch.config.train_schema import DASRTrainOptions
from dasr_arch.data.degradation_dataset import exchange_second_patches
from dasr_arch.losses.contrastive import ContrastiveTraining, MomentumContrast
from dasr_arch.losses.degradation_regression import DegradationRegression
from dasr_arch.losses.distillation import DistillationTeacher
from dasr_arch.losses.wiener_filter import WienerFilterLoss
from dasr_arch.models.supervised_model import SupervisedModel, cpu_state
from dasr_arch.models.synced_batch_norm import synchronise_batch_norm

ENCODER_STAGE = 1
KNOWN = ('kernel', 'noise_level', 'jpeg_quality', 'level')
"""What a batch tells of its degradations: inputs of the targets of auxiliary losses."""


@MODEL_REGISTRY.register()
class DASRModel(SupervisedModel):
    """Trains :class:`~dasr_arch.archs.dasr_arch.DASR`.

    The section 'train' is a :class:`~dasr_arch.config.train_schema.DASRTrainOptions`. Stage 1 trains the encoder alone,
    stage 2 encoder and SR network; with 'teacher_opt' stage 1 trains the teacher and the SR network. The loss of
    'pixel_opt' is on [0, 1]; weight 255 makes it the paper's. Ours are 'code_opt' (DegradationRegression), 'filter_opt'
    (WienerFilterLoss), 'teacher_opt' (DistillationTeacher) and 'freeze_encoder', which keeps the encoder and its batch
    statistics constant in stage 2, with the pixel loss alone.

    Of the section 'path', beside BasicSR's: 'pretrain_network_encoder', a file that the encoder is loaded from, so that
    one encoder stage serves several trainings.

    Args:
        opt: BasicSR's option dictionary.

    Raises:
        InputError: if an option is wrong or weights do not fit.
    """

    settings: DASRTrainOptions

    def __init__(self, opt: dict[str, Any]) -> None:
        self._pretrained_contrast: dict[str, Tensor] = {}
        super().__init__(opt)

    def load_network(self, net: nn.Module, load_path: str, strict: bool = True, param_key: str | None = None) -> None:
        """Loads our or the authors' weights, with the projection head if the file contains it."""
        del param_key  # as in SupervisedModel
        weights = read_dasr_weights(load_path, self.opt['path'].get('param_key_g'))
        self._load_state(net, weights.network, f"weights file '{load_path}'", strict)
        self._pretrained_contrast = weights.contrast

    def init_training_settings(self) -> None:
        """Also loads the encoder from its own file, with the projection head if that file contains it."""
        source = self.opt['path'].get('pretrain_network_encoder')
        if source is not None:
            self._pretrained_contrast = load_encoder(self.net_g, source)
            get_root_logger().info(f"Loaded the encoder from '{source}'")
        super().init_training_settings()

    def build_training_network(self) -> nn.Module:
        """The network with its contrastive part, auxiliary losses and teacher."""
        options = self.settings.contrast_opt
        self.net_contrast: MomentumContrast | None = None
        self.other_positives = False
        if options is not None:
            self.other_positives = options.positives == 'other'
            arguments = asdict(options)
            del arguments['loss_weight'], arguments['positives']
            contrast = MomentumContrast(self.net_g.encoder, self.net_g.compress.in_features, **arguments)
            self.net_contrast = contrast.to(self.device)
            if self._pretrained_contrast:
                load_fitting(self.net_contrast, self._pretrained_contrast)
                if 'queue' not in self._pretrained_contrast:
                    self.net_contrast.copy_to_key_encoder(self.net_g.encoder)
        self.net_code = self._build_regression()
        if self.settings.filter_opt is not None and self.degradation is None:
            raise InputError('filter_opt needs a data set with a known degradation, DegradationDataset')
        self.filter_loss = WienerFilterLoss(self.net_g.scale) if self.settings.filter_opt is not None else None
        self.net_teacher = self._build_teacher()
        if self.net_g.implementation == 'auto' and self.precision == 'fp32':
            self.net_g.set_implementation('reference')  # rounds as the released code; 'auto' does not
        return ContrastiveTraining(self.net_g, self.net_contrast, self.net_code, self.net_teacher, self.filter_loss)

    def _build_regression(self) -> DegradationRegression | None:
        """The auxiliary loss of 'code_opt'; part of training states, not of weights files."""
        options = self.settings.code_opt
        if options is None:
            return None
        if self.degradation is None:
            raise InputError('code_opt needs a data set with a known degradation, DegradationDataset')
        arguments = asdict(options)
        del arguments['loss_weight']
        return DegradationRegression(self.net_g.compress.in_features, self.degradation, **arguments).to(self.device)

    def _build_teacher(self) -> DistillationTeacher | None:
        """The teacher of 'teacher_opt'; part of training states, not of weights files."""
        options = self.settings.teacher_opt
        if options is None:
            return None
        first, length = self.net_g.encoder.body[0], self.net_g.compress.in_features
        teacher = DistillationTeacher(self.net_g.scale, first.out_channels, length, temperature=options.temperature)
        if self.sync_batchnorm:
            synchronise_batch_norm(teacher, self.device)
        return teacher.to(self.device)

    def start_stage(self, stage: int) -> None:
        """Freezes the SR network in stage 1; with a teacher, the encoder in stage 1 and the teacher in stage 2."""
        joint = stage != ENCODER_STAGE
        uses_teacher = self.net_teacher is not None and not joint
        for name, parameter in self.net_g.named_parameters():
            if name.startswith('encoder.'):
                parameter.requires_grad_(not uses_teacher and not (self.settings.freeze_encoder and joint))
            elif name.startswith('enlargement.') and self.filter_loss is not None:
                parameter.requires_grad_(True)
            else:
                parameter.requires_grad_(joint or uses_teacher)
        if self.net_teacher is not None:
            self.net_teacher.requires_grad_(uses_teacher).train(uses_teacher)
        assert isinstance(self.training_network, ContrastiveTraining)
        self.training_network.uses_teacher = uses_teacher
        super().start_stage(stage)

    @property
    def validates_a_part(self) -> bool:
        """True in stage 1 with a teacher, when the encoder is not trained yet."""
        return self.net_teacher is not None and self.stage == ENCODER_STAGE

    def feed_data(self, data: Mapping[str, Any]) -> None:
        """Takes raw HR patches, pairs of LR patches without HR, or (for validation) LR and HR images."""
        self._take_conditions(data)
        self.targets: dict[str, Tensor] = {}  # of the auxiliary losses
        if 'hr' in data:
            lq = self._degrade(exchange_second_patches(data) if self.other_positives else data)
            if (self.net_code is not None or self.filter_loss is not None) and not self._encoder_is_frozen:
                known = {key: data[key].to(self.device, non_blocking=True) for key in KNOWN if key in data}
                if self.net_code is not None:
                    self.targets['regression_target'] = self.net_code.target(**known)
                if self.filter_loss is not None:
                    self.targets['filter_target'] = self.filter_loss.target(known['kernel'], known['noise_level'])
        else:
            if self.other_positives and data['lq'].ndim == 5:  # validation gives one image
                raise InputError('contrast_opt.positives: other needs raw patches, got ready images; write same')
            lq = data['lq'].to(self.device, non_blocking=True)
            self._take_truth(data)
        patches = lq if lq.ndim == 5 else lq.unsqueeze(1)  # (B, P, 3, h, w): query and, unless P is 1, key
        self.lq = patches[:, 0].contiguous()
        self.key = patches[:, 1].contiguous() if patches.shape[1] > 1 else None

    @property
    def _encoder_is_frozen(self) -> bool:
        return self.settings.freeze_encoder and self.stage > ENCODER_STAGE

    def before_step(self) -> None:
        """Updates the key encoder; a frozen encoder updates no batch statistics."""
        if self._encoder_is_frozen:
            self.net_g.encoder.eval()  # without an averaged network, validation leaves it in training mode
        self.keys: list[Tensor] = []
        if self.net_contrast is not None and not self._encoder_is_frozen:
            self.net_contrast.update_key_encoder(self.net_g.encoder)

    def after_step(self) -> None:
        """Adds the keys of the whole batch to the queue."""
        if self.keys:
            assert self.net_contrast is not None
            self.net_contrast.enqueue(torch.cat(self.keys))

    def split_batch(self) -> list[dict[str, Tensor]]:
        """The batch in ``accumulate`` parts."""
        batch = {'query': self.lq, **self.conditions}
        if not self._encoder_is_frozen:
            batch |= self._encoder_inputs()
        if self.stage != ENCODER_STAGE or self.net_teacher is not None:
            if not hasattr(self, 'gt'):
                raise InputError('the joint stage needs HR images, got LR alone; set stage_2.total_iter: 0')
            batch['gt'] = self.gt
        return self._split(batch)

    def _encoder_inputs(self) -> dict[str, Tensor]:
        """Inputs of the encoder's losses; InputError if the data set does not give them."""
        if self.net_contrast is not None and self.key is None:
            raise InputError('the contrast needs two patches of each image, got one; set num_patches: 2')
        for option, name, loss in (
            ('code_opt', 'regression_target', self.net_code),
            ('filter_opt', 'filter_target', self.filter_loss),
        ):
            if loss is not None and name not in self.targets:
                raise InputError(
                    f'{option} needs raw patches with their kernels, got ready images; use DegradationDataset'
                )
        return self.targets if self.key is None else {'key': self.key, **self.targets}

    def compute_losses(self, part: dict[str, Tensor]) -> dict[str, Tensor]:
        """The encoder's losses, and in the joint stage the reconstruction loss."""
        joint = self.stage != ENCODER_STAGE or self.net_teacher is not None
        with self.autocast():
            out = self.forward_pass(**part, super_resolve=joint)
        unweighted: dict[str, Tensor] = {}
        if out.contrast is not None:
            self.keys.append(out.contrast.keys)
            target = torch.zeros(len(out.contrast.logits), dtype=torch.int64, device=self.device)
            unweighted['contrast'] = functional.cross_entropy(out.contrast.logits, target)
        unweighted |= out.losses
        weight = {name: getattr(self.settings, f'{name}_opt').loss_weight for name in unweighted}
        losses = {f'l_{name}': weight[name] * loss for name, loss in unweighted.items()}
        if joint and self.cri_pix is not None:
            losses['l_pix'] = self.cri_pix(out.sr.float(), part['gt'])
        return losses

    def collect_weights(self) -> dict[str, Any]:
        """Weights of the network and of the projection head, which a later training may start from."""
        out = super().collect_weights()
        if self.net_contrast is not None:
            out['projection'] = cpu_state(self.net_contrast.projection)
        return out
