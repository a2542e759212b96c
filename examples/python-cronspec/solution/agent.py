"""A scripted agent: reads the prompt on stdin and does the story that it names, by the patch beside
this file. It stands in for a model, so that a run can be tried without one."""

import re
import subprocess
import sys
from pathlib import Path

SOLUTION = Path(__file__).resolve().parent


def main():
    found = re.search(r"\bUS-\d+\b", sys.stdin.read())
    if not found:
        sys.exit("The prompt names no story.")
    story = found.group()
    patch = SOLUTION / f"{story}.patch"
    if not patch.is_file():
        sys.exit(f"There is no patch for {story}.")
    for path in apply(patch.read_text()):
        print(f"Edited {path}", flush=True)
    tests = subprocess.run([sys.executable, "-m", "unittest", "discover", "-s", "tests", "-t", "."], timeout=300)
    if tests.returncode != 0:
        sys.exit("The tests fail.")
    print(f"- Did {story} with tests")
    print()
    print("<promise>COMPLETE</promise>")


def apply(patch):
    """Applies a unified diff to the current directory; yields the paths that it changed."""
    for part in re.split(r"^diff --git ", patch, flags=re.MULTILINE)[1:]:
        path = Path(re.search(r"^\+\+\+ b/(.+)$", part, re.MULTILINE).group(1))
        new = "\nnew file mode" in part
        lines = [] if new else path.read_text().split("\n")
        hunks = re.split(r"^@@ .*\n", part, flags=re.MULTILINE)[1:]
        begin = 0
        for hunk in hunks:
            old, replacement = sides(hunk)
            begin = find(lines, old, begin, path)
            lines[begin : begin + len(old)] = replacement
            begin += len(replacement)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + ("\n" if new else ""))
        yield path


def sides(hunk):
    """The lines of a hunk before and after."""
    body = [line for line in hunk.split("\n")[:-1] if not line.startswith("\\")]
    return [line[1:] for line in body if line[:1] != "+"], [line[1:] for line in body if line[:1] != "-"]


def find(lines, old, begin, path):
    """Where the old lines stand, from `begin` on: the code may have moved since the patch was made."""
    for at in range(begin, len(lines) - len(old) + 1):
        if lines[at : at + len(old)] == old:
            return at
    sys.exit(f"{path} is not what the patch expects.")


if __name__ == "__main__":
    main()
