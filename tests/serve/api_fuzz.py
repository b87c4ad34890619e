"""Schemathesis against a server of a tiny model: bodies made from `/openapi.json`, good and bad.

    python -m tests.serve.api_fuzz --seconds 1200

A run ends with what was found, each with a command that shows it again, or with nothing.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.serve.running import config_for, running

# What a schema cannot say, such as which models there are, is not asked of it: `positive_data_acceptance`.
# `unsupported_method` sends TRACE, of which clients and proxies make what they like.
LEFT_OUT = "positive_data_acceptance,unsupported_method"
MAX_RESPONSE_S = 10


def fuzz(url: str, *options: str) -> subprocess.CompletedProcess[str]:
    """One run against a server that listens."""
    command = Path(sys.executable).parent / "schemathesis"
    arguments = [str(command), "run", f"{url}/openapi.json", "--exclude-checks", LEFT_OUT]
    arguments += ["--max-response-time", str(MAX_RESPONSE_S), "--request-timeout", "60", "--no-color"]
    arguments += ["--exclude-path", "/v1/apportion/events"]  # it never ends
    arguments += ["--warnings", "off", "--suppress-health-check", "all", *options]
    with tempfile.TemporaryDirectory() as folder:  # it leaves files where it runs
        return subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=folder)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=1200)
    parser.add_argument("--seed", type=int)
    asked = parser.parse_args()
    seed = () if asked.seed is None else ("--seed", str(asked.seed))
    with tempfile.TemporaryDirectory() as folder, running(config_for(Path(folder))) as server:
        run = fuzz(server.url, "--max-time", str(asked.seconds), "--continue-on-failure", *seed)
    print(run.stdout)
    sys.exit(run.returncode)


if __name__ == "__main__":
    main()
