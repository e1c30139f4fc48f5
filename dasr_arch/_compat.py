"""Third-party breakages that the package works around, each with its cause and the condition for removing it.

Nothing on the disk is changed: modules are added and module attributes are replaced when BasicSR is imported
(``dasr_arch._plugin``), before it is used.
"""

import os

# torch's OpenMP threads spin while they wait for each other. With another busy process this blocks the thread that
# they wait for: a training step then takes up to sixty times as long. Threads that never spin have to be woken for
# every layer, which takes longer than a small layer; so they spin for some 30 microseconds and then sleep
# (docs/performance.md). Read when torch is loaded, hence set here.
# Remove when: torch's Linux builds wait passively by default.
if 'OMP_WAIT_POLICY' not in os.environ:
    os.environ['OMP_WAIT_POLICY'] = 'PASSIVE'
    os.environ.setdefault('GOMP_SPINCOUNT', '1000')

import importlib.util
import sys
import types
from datetime import timedelta
from typing import Any

import torch
import yaml


def provide_functional_tensor() -> None:
    """BasicSR 1.4.2 imports ``torchvision.transforms.functional_tensor``, which torchvision removed in 0.17.

    This workaround must precede the import of BasicSR.
    Cause: ``basicsr/data/degradations.py`` takes ``rgb_to_grayscale`` from there.
    Remove when: the oldest supported BasicSR imports it from ``torchvision.transforms.functional``.
    """
    name = 'torchvision.transforms.functional_tensor'
    if name in sys.modules or importlib.util.find_spec(name) is not None:
        return
    from torchvision.transforms.functional import rgb_to_grayscale

    module = types.ModuleType(name)
    module.__dict__['rgb_to_grayscale'] = rgb_to_grayscale
    sys.modules[name] = module


def _read_options_safely() -> None:
    """BasicSR reads option files with PyYAML's full loader, which runs code that a file asks for.

    Cause: ``basicsr/utils/options.py`` calls ``yaml.load`` with the loader that ``ordered_yaml`` returns.
    Remove when: BasicSR uses a safe loader.
    """
    import basicsr.utils.options

    basicsr.utils.options.ordered_yaml = lambda: (yaml.SafeLoader, yaml.SafeDumper)


def initialise_distributed(
    launcher: str = 'pytorch', backend: str = 'auto', timeout: float = 1800, on_gpu: bool | None = None, **_: Any
) -> None:
    """Joins the process group of torchrun, on CPUs with gloo and on GPUs with NCCL.

    ``backend`` is 'auto', 'gloo' or 'nccl', ``timeout`` the seconds that a process waits for the others; ``on_gpu``
    None uses GPUs if there are any. ValueError if the launcher is not 'pytorch' (torchrun).
    """
    if launcher != 'pytorch':
        raise ValueError(f"launcher must be 'none' or 'pytorch' (torchrun), got '{launcher}'")
    if torch.distributed.is_initialized():
        return
    if on_gpu is None:
        on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ.get('LOCAL_RANK', '0')))
    chosen = ('nccl' if on_gpu else 'gloo') if backend == 'auto' else backend
    torch.distributed.init_process_group(backend=chosen, timeout=timedelta(seconds=timeout))


def _join_process_groups_without_gpu() -> None:
    """BasicSR's ``init_dist`` divides by the number of GPUs, requires NCCL and switches workers to spawn.

    Cause: ``basicsr/utils/dist_util.py``; the name is looked up in ``basicsr.utils.options`` when options are parsed.
    Remove when: BasicSR joins a gloo group on a machine without a GPU.
    """
    import basicsr.utils.options

    basicsr.utils.options.init_dist = initialise_distributed


def _load_states_without_gpu() -> None:
    """BasicSR's ``load_resume_state`` asks for the current GPU even where there is none.

    Cause: ``basicsr/train.py`` maps the state to ``torch.cuda.current_device()`` and looks for it below the current
    folder instead of the experiment's.
    Remove when: BasicSR resumes on a CPU.
    """
    import basicsr.train
    from basicsr.utils import check_resume

    def load_resume_state(opt: dict[str, Any]) -> dict[str, Any] | None:
        path = opt['path'].get('resume_state')
        folder = opt['path'].get('training_states')
        if opt.get('auto_resume') and folder and os.path.isdir(folder):
            stems = [os.path.splitext(name)[0] for name in os.listdir(folder) if name.endswith('.state')]
            iterations = [int(stem) for stem in stems if stem.isdigit()]
            if iterations:
                path = os.path.join(folder, f'{max(iterations)}.state')
        if not path:
            return None
        opt['path']['resume_state'] = path
        state: dict[str, Any] = torch.load(path, map_location='cpu', weights_only=True)
        check_resume(opt, state['iter'])
        return state

    basicsr.train.load_resume_state = load_resume_state


def _wrap_networks_without_gpu() -> None:
    """BasicSR's models name the current GPU to DistributedDataParallel even where there is none.

    Cause: ``BaseModel.model_to_device``. Our models override it; this is for BasicSR's own, such as SRModel.
    Remove when: BasicSR wraps networks on a CPU.
    """
    from basicsr.models.base_model import BaseModel
    from torch.nn.parallel import DistributedDataParallel

    original = BaseModel.model_to_device

    def model_to_device(self: Any, net: torch.nn.Module) -> torch.nn.Module:
        if self.device.type == 'cuda' or not self.opt['dist']:
            wrapped: torch.nn.Module = original(self, net)
            return wrapped
        find_unused = self.opt.get('find_unused_parameters', False)
        return DistributedDataParallel(net.to(self.device), find_unused_parameters=find_unused)

    BaseModel.model_to_device = model_to_device


def mend_basicsr() -> None:
    """Replaces broken functions of BasicSR after its import."""
    _read_options_safely()
    _join_process_groups_without_gpu()
    _load_states_without_gpu()
    _wrap_networks_without_gpu()
