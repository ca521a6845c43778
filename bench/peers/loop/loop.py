"""The bare runtime in a loop, without a server: prints its answers, then measures for each line "MODEL SECONDS" that it reads."""
import json, sys, time

import numpy

from models import EXAMPLES, Angle, Digits


def measure(run, secs):
    for _ in range(50):
        run()
    laps_s, cpu = [], time.process_time()
    started = lap = time.perf_counter()
    while lap - started < secs:
        run()
        laps_s.append(-lap + (lap := time.perf_counter()))
    cpu, ran_s = time.process_time() - cpu, lap - started
    p50, p95, p99 = numpy.percentile(laps_s, [50, 95, 99]) * 1e3
    return {"rps": len(laps_s) / ran_s, "p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "cpu_us": cpu / len(laps_s) * 1e6}


def main():
    digits, angle = Digits(), Angle()
    pixels = numpy.asarray(json.loads((EXAMPLES / "digits" / "sample.json").read_bytes())["x"], numpy.float32).reshape(1, 64)
    image = numpy.fromfile(EXAMPLES / "angle" / "sample.bin", numpy.float32).reshape(1, 3, 48, 192)
    labels, probabilities = digits.run(pixels)
    print(json.dumps({"label": int(labels[0]), "p": probabilities[0].tolist(), "scores": angle.run(image)[0].tolist()}), flush=True)
    runs = {"digits": lambda: digits.run(pixels), "angle": lambda: angle.run(image)}
    for line in sys.stdin:
        model, secs = line.split()
        print(json.dumps(measure(runs[model], float(secs))), flush=True)


if __name__ == "__main__":
    main()
