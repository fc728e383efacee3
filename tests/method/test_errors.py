"""What a command says, whatever the terminal can write."""

import subprocess
import sys

import pytest
from tiny import PROJECT

PROGRAM = """\
import sys
from ldatlib.errors import UserError, exit_status

def work():
    print("\\u732b 70 \\u00b1 3")
    raise UserError("no class '\\u732b'")

sys.exit(exit_status(work))"""


@pytest.mark.parametrize(
    ("encoding", "out", "error"),
    [
        ("utf-8", "猫 70 ± 3", "error: no class '猫'"),
        ("latin-1", "\\u732b 70 ± 3", "error: no class '\\u732b'"),
        ("ascii", "\\u732b 70 \\xb1 3", "error: no class '\\u732b'"),
    ],
)
def test_a_name_that_the_terminal_lacks_is_written_by_its_number(encoding, out, error):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        cwd=PROJECT,
        env={"PYTHONIOENCODING": encoding, "PYTHONPATH": str(PROJECT)},
    )
    assert done.returncode == 1
    assert done.stdout.decode(encoding).strip() == out
    assert done.stderr.decode(encoding).strip() == error
