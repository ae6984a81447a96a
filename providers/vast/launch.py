"""The script that an instance of Vast.ai starts with, and how it ends itself. Text only.

With an SSH runtype Vast.ai puts its own SSH server in, in place of the image's entrypoint, and runs `onstart`.
"""

from __future__ import annotations

import base64
import gzip
import shlex
from datetime import datetime

from providers import pods
from providers.base import LaunchRequest
from providers.errors import Rejected

# The reference says 4096, its quick start 4048, a guide 16 KB; a user was refused above 4048 (seen 2026-11).
LONGEST_SCRIPT = 4000
MOST_VARIABLE_BYTES = 32768

# What the instance's own key may do is start, stop and destroy that instance.
# https://docs.vast.ai/guides/instances/docker-environment
END = pods.end_script(
    '[ -n "$CONTAINER_ID" ] || exit 1\n'  # without it the address is that of all instances
    'ask DELETE "${VAST_URL:-https://console.vast.ai}/api/v0/instances/$CONTAINER_ID/" "$CONTAINER_API_KEY"',
    ("CONTAINER_ID", "CONTAINER_API_KEY", "VAST_URL"),
)

# The variables for logins, which do not see them otherwise; keys stay out of the file, the end reads them elsewhere. A
# rehearsal without Docker has no file of its own there: it would be this computer's.
# Without .no_auto_tmux every login lands in tmux. https://docs.vast.ai/guides/instances/connect/ssh
_LOGINS = f"""\
touch "{pods.HOME}/.no_auto_tmux"
[ -n "${{GPUJOB_MACHINE_HOME:-}}" ] ||
    env | grep -vE '^[A-Za-z0-9_]*(KEY|TOKEN|SECRET|PASSWORD)=' >>/etc/environment
"""

# The run's own key. An account key would have to be there before the create, would be put into every other instance of
# the account, and would be left behind by a crash. The key is also attached to the instance, in case that Vast.ai
# writes the file anew. Whatever is in the file may lack its last line's end.
_KEY = """\
mkdir -p "{home}/.ssh" && chmod 700 "{home}/.ssh"
printf '\\n%s\\n' {key} >>"{home}/.ssh/authorized_keys" && chmod 600 "{home}/.ssh/authorized_keys"
"""


def onstart(request: LaunchRequest, now: datetime) -> str:
    """The switch first: whatever fails after it, the machine ends at its deadline. Packed when it is too long."""
    parts = [pods.arm(END, deadline=request.deadline, now=now)]
    if request.public_key:
        parts.append(_KEY.format(home=pods.HOME, key=shlex.quote(request.public_key.strip())))
    script = "".join((*parts, _LOGINS))
    if len(script.encode()) <= LONGEST_SCRIPT:
        return script
    packed = base64.b64encode(gzip.compress(script.encode(), mtime=0)).decode()
    script = f'eval "$(echo {packed} | base64 -d | gzip -dc)"\n'
    if len(script) > LONGEST_SCRIPT:
        text = f"what a machine starts with is at most {LONGEST_SCRIPT} bytes at Vast.ai; this is {len(script)}"
        raise Rejected(text, provider="vast")
    return script
