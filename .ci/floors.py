"""Prints the oldest dependencies that setup.cfg allows, as pip constraints."""

import configparser
import re

parser = configparser.ConfigParser()
parser.read("setup.cfg")
lines = parser["options"]["install_requires"].splitlines()
for extra in ("cli", "crypto", "flask", "fastapi", "django", "redis", "sql", "prometheus", "otel"):
    lines += parser["options.extras_require"][extra].splitlines()
for line in sorted(set(filter(None, lines))):
    print(re.sub(r"\[.*\]", "", line).replace(">=", "=="))
