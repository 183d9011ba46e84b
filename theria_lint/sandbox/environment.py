"""Select the environment variables that code under test may see, and point the rest at its folder."""

from __future__ import annotations

from collections.abc import Mapping

_USER = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "LANG", "LANGUAGE", "TZ", "TMPDIR", "CC", "CXX")
_LOADER = ("LD_LIBRARY_PATH", "LD_PRELOAD", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH")
_NAMES = frozenset((*_USER, *_LOADER))
_GPU = ("CUDA_", "CUDNN_", "CUBLAS_", "NVIDIA_", "HIP_", "ROCM_", "ROCR_", "HSA_")
_LIBRARIES = ("TORCH_", "PYTORCH_", "TRITON_", "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "BLIS_", "NUMEXPR_")
_PREFIXES = ("LC_", "VIRTUAL_ENV", "CONDA_", "PYTHON", "MALLOC_", *_GPU, *_LIBRARIES)
_SECRET = ("TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "API_KEY", "APIKEY")


def select_harmless_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that say how to run, not who is running: what is not known to be harmless is left out."""
    return {name: value for name, value in environment.items() if _is_harmless(name)}


def _is_harmless(name: str) -> bool:
    known = name in _NAMES or name.startswith(_PREFIXES)
    return known and not any(word in name.upper() for word in _SECRET)


def make_folder_variables(folder: str) -> dict[str, str]:
    """The variables that make a folder the place for everything that a program wants to keep."""
    places = dict.fromkeys(("HOME", "TMPDIR", "TEMP", "TMP", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"), folder)
    return {
        **places,
        "XDG_DATA_HOME": folder,
        "TRITON_HOME": folder,
        "TRITON_CACHE_DIR": f"{folder}/triton",
        "TORCHINDUCTOR_CACHE_DIR": f"{folder}/inductor",
        "TORCH_HOME": f"{folder}/torch",
    }
