"""Every training configuration of every recipe, and how to make it small; for the tests that go through all of them.

A new egs/*/conf/train_*.yaml is tested without being listed here; a new model should get small sizes in REDUCED.
"""

import json
from pathlib import Path

from senet import config

CONFIGS = sorted((Path(__file__).resolve().parents[1] / "egs").glob("*/conf/train_*.yaml"))
REDUCED = {
    "cnunet.CNUNet": {"channels": 8, "inner": 8, "depths": [2, 1], "dense_layers": 2},
    "cnunet.NUNet": {"channels": 8, "inner": 4, "depths": [2, 1], "dense_layers": 2},
    "gagnet.GaGNet": {"channels": 8, "d_feat": 32, "cd1": 8, "p": 1, "dilations": [1, 2]},
    "lowlatency.LowLatencyNet": {"channels": 4, "maps": 2, "lstm_units": 24, "fc_units": 24},
    "tfgridnet.TFGridNet": {"emb_dim": 4, "lstm_units": 6, "n_heads": 2, "approx_qk_dim": 514},
}


def config_id(path):
    return f"{path.parts[-3]}-{path.stem}"


def reduced(path):
    """The options of a configuration with a small network, as words for the train command."""
    options = config.read_yaml(path)
    conf = options.get("model_conf", {}) | REDUCED.get(options["model"], {})
    words = ["--config", str(path)]
    if options.get("objective") == "adversarial":
        objective_conf = options["objective_conf"]
        discriminator = _thin(objective_conf["discriminator"], objective_conf.get("discriminator_conf", {}))
        words += ["--objective_conf", json.dumps(objective_conf | {"discriminator_conf": discriminator})]
        words += ["--crop_seconds", "0.512", "--crop_hop_seconds", "0.256"]
        conf = _thin(options["model"], conf)
    return [*words, "--model_conf", json.dumps(conf)]


def _thin(model, conf):
    """Few channels in as many layers, as attention is placed by a layer's number; windows half as long."""
    channels = config.resolve("models", model, conf)["channels"]
    return conf | {"channels": [max(4, c // 64) for c in channels], "window": 8192}
