"""Enhance live: raw PCM from standard input to standard output, or from the microphone to the loudspeaker.

  arecord -t raw -f S16_LE -r 16000 | senet stream --model model.senet | aplay -t raw -f S16_LE -r 16000
  ffmpeg -i in.mp3 -f s16le -ac 1 -ar 16000 - | senet stream --model model.senet > out.s16
  senet stream --model model.senet --live

For models that are causal. What comes out is as long as what went in and in line with it: no silence is put before it;
a sample is given out once as many more have come in as the latency says, which is told before it begins. At the end it
tells how long chunks took: live, one that takes longer than it lasts is late. Both go to standard error. Ctrl-C ends
it. Exit status: 0 the input ended, or --live was ended; 1 it cannot be done; 2 wrong usage.
"""

import logging
import sys
import time

from senet.bin import HelpAsWritten, Parser, positive, run, setup_logging
from senet.errors import UserError


def get_parser():
    parser = Parser(description=__doc__, formatter_class=HelpAsWritten, allow_abbrev=False)
    parser.add_argument("--model", metavar="MODEL", help="a pack, or the folder of an experiment")
    parser.add_argument("--checkpoint", default="best", help="of an experiment, as for senet enhance")
    parser.add_argument(
        "--sample_rate",
        type=positive,
        metavar="HZ",
        help="of input and output; if not given the model's; another is resampled, which takes time (it says how much)",
    )
    parser.add_argument("--channels", type=positive, default=1, help="each is enhanced by itself")
    parser.add_argument("--format", choices=("s16le", "f32le"), default="s16le", help="of standard input and output")
    parser.add_argument(
        "--chunk",
        type=positive,
        metavar="SAMPLES",
        help="at a time; if not given a frame's shift; several frames at once take less time each, and wait longer",
    )
    parser.add_argument("--num_threads", type=positive, default=1, help="CPU threads")
    group = parser.add_argument_group("sound card", "by sounddevice, an optional package: pip install sounddevice")
    group.add_argument("--live", action="store_true", help="from the microphone to the loudspeaker; use headphones")
    group.add_argument("--input_device", type=_device, metavar="DEVICE", help="number or part of a name")
    group.add_argument("--output_device", type=_device, metavar="DEVICE", help="number or part of a name")
    group.add_argument("--list_devices", action="store_true", help="tell what devices there are, and end")
    return parser


def _device(text):
    return int(text) if text.isdecimal() else text


def main(argv=None):
    parser = get_parser()
    args = parser.parse_args(argv)
    if not args.list_devices and not args.model:
        parser.error("--model is needed")
    if not args.live and (args.input_device, args.output_device) != (None, None):
        parser.error("--input_device and --output_device are for --live")
    setup_logging()
    if not args.live and not args.list_devices:
        for file, name, instead in ((sys.stdin, "input", "write"), (sys.stdout, "output", "read")):
            if file.isatty():
                raise UserError(f"standard {name} is a terminal: {instead} raw PCM by a pipe or a file, or use --live")
    import torch

    from senet.infer.live import Clock, Pipe, SoundCard, sounddevice

    if args.list_devices:
        print(sounddevice().query_devices())
        return 0
    torch.set_num_threads(args.num_threads)
    enhance, rate, chunk = prepare(args)
    if args.live:
        ahead = chunk + enhance.latency
        ends = SoundCard(rate, args.channels, chunk, ahead, (args.input_device, args.output_device))
    else:
        ends = Pipe(sys.stdin.buffer, sys.stdout.buffer, args.format, args.channels)
    clock = Clock(chunk / rate)
    try:
        for x in ends.chunks(chunk):
            start = time.perf_counter()
            y = enhance.step(x)
            clock.add(time.perf_counter() - start)
            ends.write(y)
        ends.write(enhance.flush())
    except KeyboardInterrupt:
        if not args.live:
            raise
    finally:
        logging.info("%s", clock)
        for trouble in ends.troubles():
            logging.warning("%s", trouble)
    return 0


def prepare(args):
    """The stream, which is at speed already, its rate in Hz, and the chunks' samples."""
    import torch

    from senet import load_model

    model = load_model(args.model, args.checkpoint)
    stream = model.stream(args.sample_rate, args.channels)
    rate, chunk = stream.sample_rate, args.chunk or stream.hop
    for _ in range(stream.latency // chunk + 10):  # the first steps take longer
        stream.step(torch.zeros(args.channels, chunk))
    stream.reset()
    latency = stream.latency / rate
    resampling = latency - model.latency / model.sample_rate
    logging.info(
        "%s: %s, %d Hz, channels: %d, latency %.1f ms and the chunk's %.4g ms%s",
        args.model,
        type(model.model).__name__,
        rate,
        args.channels,
        1000 * (latency - resampling),
        1000 * chunk / rate,
        f", and {1000 * resampling:.1f} ms of resampling, which {model.sample_rate} Hz would spare" * bool(resampling),
    )
    return stream, rate, chunk


if __name__ == "__main__":
    sys.exit(run(main))
