"""senet: recipes for single-channel speech enhancement.

Importing this package is cheap: nothing here loads torch, scipy or jinja2.
"""

__version__ = "0.1.0"
