"""Makes the state that a test in src/run/keeper.rs reads, after the version of its shape was raised.

cargo build --release && python3 tests/state/make.py target/release/claude-tokmon

Two hours of two sessions, some errors, a model without a price; then, while `tail` watches, the cache of one session breaks.
"""

import datetime
import json
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

program = pathlib.Path(sys.argv[1]).resolve()
target = pathlib.Path(__file__).parent
random.seed(3)
written = 0


def timestamp(at):
    return datetime.datetime.fromtimestamp(at, datetime.timezone.utc).isoformat(timespec="milliseconds")


def line(at, session, read, write, model="claude-opus-4-7"):
    global written
    written += 1
    usage = {
        "input_tokens": random.randint(100, 900),
        "output_tokens": random.randint(100, 400),
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": write,
    }
    response = {"time": timestamp(at), "id": f"msg_{written:06}", "model": model, "session": session, "usage": usage}
    return json.dumps(response) + "\n"


with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    now = time.time()
    with open(folder / "app.log", "w") as log:
        at = now - 2 * 3600
        log.write(line(at, None, 0, 0, "claude-unheard-of"))
        while at < now - 5:
            log.write(line(at, "a", 40_000, 500) + line(at, "b", 40_000, 500))
            if random.random() < 0.05:
                error = {"type": "overloaded_error", "message": "overloaded"}
                log.write(json.dumps({"time": timestamp(at), "type": "error", "error": error}) + "\n")
            at += random.uniform(40, 90)
    command = [program, "tail", "--config", "-", "--json", "--state", "state", "app.log"]
    tail = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    # It is at the end of the log once it has told of the model without a price.
    tail.stdout.readline()
    # Written at once, and asked a quarter of a second after the other.
    begun = time.time() - 1.5
    with open(folder / "app.log", "a") as log:
        log.writelines(line(begun + n / 4, "a", 0, 40_500) for n in range(6))
    while "cache-break" not in tail.stdout.readline():
        pass
    tail.send_signal(signal.SIGTERM)
    tail.communicate()
    # As text, so that it can be looked at and compared.
    digits = (folder / "state").read_bytes().hex()
    rows = [digits[at : at + 128] for at in range(0, len(digits), 128)]
    (target / "state.hex").write_text("\n".join(rows) + "\n")
    replay = [program, "replay", "--config", "-", "--json", "app.log"]
    replayed = subprocess.run(replay, cwd=folder, capture_output=True, text=True, check=True)
    summary = json.loads(replayed.stdout.splitlines()[-1])
    expected = {name: summary[name] for name in ("records", "cost_pusd", "api_errors", "unpriced")}
    (target / "expected.json").write_text(json.dumps(expected) + "\n")
