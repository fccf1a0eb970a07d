"""Write a trained model for programs without Keras.

The file is compared with Keras before it is kept.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ecg.models.bundle import Bundle
from ecg.models.export_contract import ExportReport, check_exportable, compare_with_keras
from ecg.models.litert_export import load_litert_file, write_litert_file
from ecg.models.onnx_export import load_onnx_file, write_onnx_file
from ecg.models.translation import ExportError
from ecg.runtime.files import atomic_path


class FileFormat(NamedTuple):
    """A format of files for other programs.

    Attributes:
        extra: Extra of this package that installs what writes and runs such files.
        packages: Names of the packages, as Python imports them.
        write: Writes a model as a file.
        load: Returns a function that predicts with a file.
    """

    extra: str
    packages: tuple[str, ...]
    write: Callable[[Bundle, Path], None]
    load: Callable[[Path], Callable[[Mapping[str, np.ndarray]], np.ndarray]]


FORMATS = {  # by the ending of the file
    ".onnx": FileFormat("onnx", ("onnx", "onnxruntime"), write_onnx_file, load_onnx_file),
    ".tflite": FileFormat("litert", ("ai_edge_litert",), write_litert_file, load_litert_file),
}


class PackageMissing(RuntimeError):
    """A package that writes or runs exported files is not installed."""


def export_bundle(bundle: Bundle, path: Path) -> ExportReport:
    """Write a model as a file of the format that its ending says.

    Args:
        bundle: The model.
        path: The file, which ends with .onnx or .tflite. It is replaced if it exists.

    Raises:
        PackageMissing: A package that the format needs is not installed.
        ExportError: The ending is another one, the model cannot be written, or the file would predict something else
            than Keras.
        OSError: The file cannot be written.
    """
    file_format = FORMATS.get(path.suffix.lower())
    if file_format is None:
        raise ExportError(f"{path}: expected a file that ends with {' or '.join(FORMATS)}")
    try:
        for package in file_format.packages:
            import_module(package)
    except ImportError as error:
        raise PackageMissing(f"{error.name} is missing: pip install 'reduced-lead-ecg[{file_format.extra}]'") from None
    check_exportable(bundle)
    with atomic_path(path) as temporary:
        file_format.write(bundle, temporary)
        return compare_with_keras(bundle, file_format.load(temporary))
