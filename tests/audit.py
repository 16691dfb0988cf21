"""`make audit`: look for known vulnerabilities of the installed packages.

A vulnerability is a failure.  A database that cannot be reached is not: this says
that nothing was checked.
"""

import json
import subprocess
import sys
from typing import Any


def main() -> int:
    command = [sys.executable, "-m", "pip_audit", "--local", "--skip-editable"]
    command += ["--progress-spinner", "off", "--format", "json"]
    answer = subprocess.run(command, capture_output=True, text=True)
    try:
        packages: list[dict[str, Any]] = json.loads(answer.stdout)["dependencies"]
    except ValueError:  # it stopped with an error
        packages = []
    checked = [package for package in packages if "vulns" in package]
    if not checked:
        lines = [package["skip_reason"] for package in packages[:1]]
        lines = lines or answer.stderr.strip().splitlines()[-1:]
        print("audit: no answer from the vulnerability database, NOTHING WAS CHECKED")
        print("audit: pip-audit says:", *lines)
        return 0
    found = False
    for package in checked:
        for problem in package["vulns"]:
            found = True
            fixed = ", ".join(problem["fix_versions"]) or "none yet"
            print(f"{package['name']} {package['version']}: {problem['id']}", end="")
            print(f", fixed in: {fixed}")
    print(f"audit: {len(checked)} of {len(packages)} installed packages were checked")
    return int(found)


if __name__ == "__main__":
    sys.exit(main())
