"""Pack a trained model into one file that enhances anywhere, or show what is in one.

  senet pack exp/train_lowlatency -o lowlatency.senet --licence CC-BY-4.0
  senet pack --show lowlatency.senet
  senet enhance noisy.wav -o enhanced.wav --model lowlatency.senet

A pack holds the weights, what builds the model, the record of its training, its scores and a model card, each with its
SHA-256. It holds no code and no path of this machine, and is safe to open whoever made it. The scores are those in
EXP/enhanced_<set> (stages 5 and 6), where they were made with exactly these weights.
"""

import logging
import os
import re
import sys
from pathlib import Path

from senet.bin import HelpAsWritten, Parser, run, setup_logging
from senet.errors import UserError
from senet.files import whole_file
from senet.infer.pack import NAME, SUFFIX, Pack


def get_parser():
    parser = Parser(description=__doc__, formatter_class=HelpAsWritten, allow_abbrev=False)
    parser.add_argument("exp", nargs="?", metavar="EXP", help="folder of a trained model, exp/<tag>")
    parser.add_argument("-o", "--output", metavar=f"NAME{SUFFIX}", help="the pack to write")
    parser.add_argument(
        "--checkpoint",
        help="best, last, the name of a file in EXP/checkpoints, or the mean of N of them: mean_best_N, mean_last_N "
        "(with ema_decay these hold the moving average); if not given that which the test sets were enhanced with, or "
        "best",
    )
    parser.add_argument("--name", help="of the model; if not given that of the experiment")
    parser.add_argument(
        "--licence",
        help="under which others may use the weights, such as CC-BY-4.0; if not given the pack says that there is none",
    )
    parser.add_argument("--description", default="", help="a sentence or more for the model card")
    parser.add_argument("--overwrite", action="store_true", help="replace a pack that is there")
    parser.add_argument("--card", metavar="FILE.md", help="also write the model card to a file")
    parser.add_argument(
        "--show",
        metavar="PACK",
        help="print a pack's model card, compare its digests and load its model; nothing is packed",
    )
    parser.add_argument("--dry_run", action="store_true", help="only check the options and say the disk it needs")
    return parser


def main(argv=None):
    args = get_parser().parse_args(argv)
    setup_logging()
    if args.show:
        if args.exp or args.output:
            raise UserError("--show PACK only shows; leave out EXP and -o")
        return show(args)
    if not args.exp or not args.output:
        raise UserError(f"what to pack, and where to? senet pack exp/<tag> -o name{SUFFIX}; or --show name{SUFFIX}")
    if Path(args.output).suffix != SUFFIX:
        raise UserError(f"-o {args.output}: a pack's name ends with {SUFFIX}")
    if not args.overwrite and os.path.lexists(args.output):
        raise UserError(f"-o {args.output}: is there already; --overwrite replaces it")
    name = args.name or re.sub(r"[^A-Za-z0-9_.+-]+", "_", Path(args.exp).resolve().name)
    if not re.fullmatch(NAME, name):
        raise UserError(f"--name '{name}': expected letters, digits, and . _ + -, at most 100")
    if args.dry_run:
        sizes = [path.stat().st_size for path in Path(args.exp, "checkpoints").glob("step_*.pt")]
        print(f"{args.output}: {f'at most {max(sizes)} bytes' if sizes else 'no larger than a checkpoint'}")
        return None
    return pack(args, name)


def show(args):
    from senet.infer import load
    from senet.infer.card import harmless

    found = Pack(args.show)
    card = found.card()
    digests = found.verify()
    print(card)
    print(f"{harmless(args.show)}: made by senet {harmless(found.made_by)}, {found.size:,} bytes of weights; checked:")
    for part, digest in sorted(digests.items()):
        print(f"  {harmless(part):<8} SHA-256 {digest}")
    write_card(args.card, card)
    load.load_model(args.show)  # digests agree with anything; whether it is a model shows when it is built
    print("  its model is one of this senet and was built with these weights")


def pack(args, name):
    from senet.infer import card, load
    from senet.infer import pack as format_

    if load.is_pack(args.exp):
        raise UserError(f"{args.exp}: is no experiment folder but a file; a pack needs no packing")
    checkpoint = args.checkpoint or enhanced_with(args.exp)
    enhancer = load.load_model(args.exp, checkpoint)
    tensors = enhancer.model.state_dict()
    for tensor, value in tensors.items():
        if not value.isfinite().all():
            raise UserError(f"{args.exp}: '{tensor}' has values that are not finite; pack another checkpoint")
    record = enhancer.info | {"name": name, "description": args.description}
    record |= {"licence": args.licence} if args.licence else {}
    record["scores"] = find_scores(args.exp, load.identity(args.exp, enhancer.model), checkpoint)
    page = card.markdown(record)
    part = Path(args.output).with_name(f".{Path(args.output).name}.part")
    try:
        format_.write(part, tensors, record, page)
        load.load_model(part)  # as others will: what is refused is not left behind
        os.replace(part, args.output)
    finally:
        part.unlink(missing_ok=True)
    write_card(args.card, page)
    logging.info(
        "%s: %s, %s parameters, %d bytes, scores of %s; to give away: wherever senet is, 'senet enhance IN -o OUT "
        "--model %s' takes it",
        args.output, record["model"], f"{record['parameters']:,}", Path(args.output).stat().st_size,
        ", ".join(record["scores"]) or "no test set", Path(args.output).name,
    )  # fmt: skip
    if not args.licence:
        logging.warning("%s: states no licence, so that nobody may use it; --licence says which", args.output)


def write_card(path, card):
    if path:
        with whole_file(path) as f:
            f.write(card)


def enhanced_with(exp):
    """The checkpoint that the test sets in an experiment were enhanced with; "best" if none or several."""
    from senet.report.results import read_json

    found = {read_json(p, "enhance the set again").get("checkpoint") for p in Path(exp).glob("enhanced_*/enhance.json")}
    return found.pop() if len(found) == 1 and None not in found else "best"


def find_scores(exp, identity, checkpoint):
    """{test set: its scores} of an experiment, where its audio was made with the weights of this identity."""
    from senet.report.results import Result

    scores = {}
    for folder in sorted(path.parent for path in Path(exp).glob("enhanced_*/summary.json")):
        result = Result(folder)
        if made_with(folder) == {identity}:
            scores[result.test_set] = describe(result)
        else:
            logging.warning(
                "%s: is not of these weights, so its scores are left out; enhance with --checkpoint %s and score "
                "(stages 5 and 6), or pack the checkpoint that it was made with",
                folder,
                checkpoint,
            )
    return scores


def made_with(folder):
    """Identities of the models that enhanced a test set."""
    from senet import records

    return {records.previous(path)[0].get("model") for path in (folder / "shards").glob("wav.*.jsonl")}


def describe(result):
    """What a pack says of a result: means, intervals, and what makes them comparable."""
    from senet import metrics

    summary, found = result.summary, []
    for name in result.metrics:
        result.scores(name)  # refuses scores that the summary was not made from
        metric, _ = metrics.find(name)
        numbers = summary["metrics"][name]
        found.append(
            {
                "name": name,
                "label": metrics.label(name),
                "lower_is_better": metric.lower_is_better,
                "digits": metric.digits,
                **{k: numbers.get(k) for k in ("mean", "interval", "n", "std", "failed", "version", "over_noisy")},
            }
        )
    keep = ("n", "seconds", "sample_rate", "utterances", "references")
    return {k: summary.get(k) for k in keep} | {"metrics": found}


if __name__ == "__main__":
    sys.exit(run(main))
