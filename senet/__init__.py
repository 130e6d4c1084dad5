"""senet: recipes for single-channel speech enhancement.

Importing this package is cheap: nothing here loads torch, scipy or jinja2. ``load_model`` does when it is used::

    from senet import load_model

    enhanced = load_model("name.senet").enhance(noisy, sample_rate)
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["load_model"]

if TYPE_CHECKING:
    from senet.infer.load import load_model


def __getattr__(name):
    if name == "load_model":
        from senet.infer.load import load_model

        return load_model
    raise AttributeError(f"module 'senet' has no attribute '{name}'")
