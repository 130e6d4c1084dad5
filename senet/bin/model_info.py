"""Tell what a model costs and how far it looks: parameters, MACs, memory, latency, receptive field."""

import json
import os
import sys
from pathlib import Path

from senet import config
from senet.bin import run, setup_logging
from senet.errors import UserError
from senet.infer.pack import SUFFIX
from senet.infer.record import is_pack, model_options
from senet.train import options

# The longest signal that the receptive field is looked for in, by its MACs and seconds: some seconds on one core.
REACH_MACS, REACH_SECONDS = 2e10, 12.0


def get_parser():
    parser = options.get_parser()
    parser.description = (
        "Tell what a model costs and how far it looks: parameters and MACs of its parts, memory of a training step and "
        "of enhancing a recording, latency, receptive field. Takes the options and configurations of senet.bin.train "
        "and needs of them only --model, which may also be an experiment or a pack: --model exp/<tag>, --model "
        "name.senet. Nothing is trained and no data is read."
    )
    for action in parser._actions:
        action.required = False
    info = parser.add_argument_group("measurement")
    info.add_argument(
        "--seconds", type=float, default=4.0, help="length of a recording, and of one to train on without crop_seconds"
    )
    info.add_argument("--json", action="store_true", help="print all figures as JSON")
    return parser


def main(argv=None):
    args = parse(sys.argv[1:] if argv is None else list(argv))
    setup_logging("WARNING")
    info = measure_model(args)
    print(json.dumps(info, indent=2) if args.json else as_text(info))


def parse(argv):
    """The options; those of the experiment or the pack where ``--model`` is one."""
    parser = get_parser()
    args = parser.parse(argv)
    if not args.model:
        raise UserError("--model or --config is missing: whose figures?")
    if args.seconds <= 0:
        raise UserError(f"--seconds {args.seconds:g}: expected more than 0")
    if not (os.sep in args.model or args.model.endswith(SUFFIX) or Path(args.model).is_dir()):
        return args  # a class
    if not is_pack(args.model):
        trained = model_options(args.model)["model"]
        args = parser.parse(["--config", str(Path(args.model) / "config.yaml"), *argv])
        args.model = trained
    else:
        from senet.infer.load import load_model

        info = load_model(args.model).info  # which looks at sizes before it builds anything
        args.model, args.model_conf = info["model"], info["model_conf"] | args.model_conf
    return args


def measure_model(args):
    """All figures, as plain values in samples, bytes and operations."""
    import torch

    from senet.models import measure

    with torch.device("meta"):
        model = config.build("models", args.model, args.model_conf).eval()
    rate = model.sample_rate
    per_second = measure.steady_macs(model, rate)
    recordings = [
        {"seconds": seconds, "macs": measure.macs(model, round(seconds * rate)).total}
        for seconds in (1.0, args.seconds)
    ]
    seconds = min(max(1.0, REACH_MACS / max(per_second.total, 1)), REACH_SECONDS)
    reach = measure.reach(config.build("models", args.model, args.model_conf), seconds)
    parts = measure.parameters_by_part(model)
    return {
        "model": args.model,
        "sample_rate": rate,
        "parameters": {"total": sum(parts.values()), "parts": parts},
        "macs": {
            "counted": measure.COUNTED,
            "per_second": per_second.total,
            "per_second_of_convolutions": per_second.convolutions,
            "per_second_of_parts": per_second.parts,
            "of_a_recording": recordings,
        },
        "causal": model.causal,
        "latency_samples": model.latency,
        "receptive_field": {
            "past_samples": reach.past,
            "future_samples": reach.future,
            "tried_samples": reach.tried,
            "recurrent": any(isinstance(module, torch.nn.RNNBase) for module in model.modules()),
        },
        "inference": {
            "seconds": args.seconds,
            "peak_bytes": measure.inference_bytes(model, round(args.seconds * rate)),
        },
        "training": training_memory(args) if args.loss and parts else None,
    }


def training_memory(args):
    """Bytes of a training step with the configuration's batch, on the meta device."""
    import torch

    from senet.models.measure import LiveBytes
    from senet.train import build

    seconds = args.crop_seconds or args.seconds
    with LiveBytes() as memory:
        with torch.device("meta"):
            model = build.build_model(args, "meta").train()
            objective = build.build_objective(args, model, "meta")
            num_samples = round(seconds * model.sample_rate)
            size = args.batch_size * objective.passes
            batch = {name: torch.empty(size, num_samples) for name in ("noisy", "clean", "noise")}
            batch |= {"lengths": torch.full((size,), num_samples), "ids": [""] * size}
        build.begin(objective)
        memory.restart()
        objective.step(batch)
    return {
        "batch_size": args.batch_size,
        "seconds": seconds,
        "peak_bytes": memory.peak,
        "kept_bytes": memory.now,
    }


# ---------------------------------------------------------------- text


def as_text(info):
    from senet.report.page import quantity

    parameters, macs = info["parameters"], info["macs"]
    inference, training = info["inference"], info["training"]
    one, long = (f["macs"] for f in macs["of_a_recording"])
    lines = [f"{info['model']}, {info['sample_rate']} Hz", ""]
    lines += [f"{'part':<24}{'parameters':>14}{'MACs per second':>18}"]
    for part in dict.fromkeys([*parameters["parts"], *macs["per_second_of_parts"]]):
        size, cost = parameters["parts"].get(part, 0), macs["per_second_of_parts"].get(part, 0)
        lines += [f"{part or '(itself)':<24}{size:>14,}{quantity(cost):>18}"]
    lines += [f"{'all':<24}{parameters['total']:>14,}{quantity(macs['per_second']):>18}", ""]
    lines += [
        f"MACs             {quantity(one)} for 1 s, {quantity(macs['per_second'])} for each second more; "
        f"{quantity(long)} for {inference['seconds']:g} s",
        f"                 (counted: {macs['counted']})",
        f"causal           {'yes' if info['causal'] else 'no'}",
        f"latency          {duration(info['latency_samples'], info['sample_rate'], 'the whole recording')}",
    ]
    field = info["receptive_field"]
    tried = f"{duration(field['tried_samples'], info['sample_rate'])} were tried"
    unbounded = f"all, by recurrent layers ({tried})" if field["recurrent"] else f"all, as far as is known ({tried})"
    for side, name in (("past", "receptive field  "), ("future", "                 ")):
        lines += [f"{name}{side}: {duration(field[f'{side}_samples'], info['sample_rate'], unbounded)}"]
    lines += [f"enhancing {inference['seconds']:g} s   {gibibytes(inference['peak_bytes'])} at most, float32"]
    if training:
        lines += [
            f"training step    {gibibytes(training['peak_bytes'])} at most, batch of {training['batch_size']} x "
            f"{training['seconds']:g} s; of this {gibibytes(training['kept_bytes'])} from step to step: parameters, "
            "gradients, optimiser",
            "                 (tensors alive, operation by operation, without what kernels use inside)",
        ]
    return "\n".join(lines)


def duration(samples, rate, otherwise=""):
    return otherwise if samples is None else f"{1000 * samples / rate:g} ms ({samples} samples)"


def gibibytes(number):
    return f"{number / 2**30:.3g} GiB"


if __name__ == "__main__":
    sys.exit(run(main))
