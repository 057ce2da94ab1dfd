"""What holds for every verb."""

import subprocess
import sys


def test_a_reader_that_has_seen_enough_is_no_failure():
    command = [sys.executable, "-u", "-m", "brodmann", "recipes", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as verb:
        verb.stdout.close()
        words = verb.stderr.read()
    assert verb.returncode == 0 and words == b""
