"""The script that a rented container starts with, and the ends it can put to itself. Text only; knows no cloud's API.

A pod begins with our script in place of the image's own command: it arms the switch that ends the machine at its
deadline, puts in an SSH server where the image has none, and then waits. POSIX sh, for any image.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import datetime

# A rehearsal on a computer without Docker gives its machines a home that is not /root. Not $HOME: an image may set that
# to another place than the one where a login lands.
HOME = "${GPUJOB_MACHINE_HOME:-/root}"
DIRECTORY = f"{HOME}/.gpujob"
END = f"{DIRECTORY}/end"  # for a shell: `sh "END"` asks the cloud to end this machine
SELF_DESTRUCT = ("sh", "-c", f'exec sh "{END}"')

# The variables of PID 1, for those that a login session does not see.
_FROM_PID_1 = """\
from_start() { tr '\\0' '\\n' </proc/1/environ 2>/dev/null | sed -n "s/^$1=//p" | head -n 1; }
for name in NAMES; do
    eval "value=\\${$name:-}"
    [ -n "$value" ] || eval "$name=\\$(from_start $name)"
    export "$name"
done
"""

# curl and wget may be missing; python3 may, too: one of them is there in every image that can train.
_REQUEST = """\
ask() { # METHOD URL TOKEN [JSON]: over stdin or a variable, never in argv
    export method="$1" url="$2" token="$3" body="${4:-}"
    if command -v curl >/dev/null 2>&1; then
        printf 'header = "Authorization: Bearer %s"\\n' "$(printf %s "$token" | sed 's/[\\"]/\\\\&/g')" |
            curl -sS -f -m 20 -K - -X "$method" -A gpujob -H 'Content-Type: application/json' ${body:+-d "$body"} "$url"
    else
        python3 -c 'import os, urllib.request as r
e = os.environ
q = r.Request(e["url"], method=e["method"], data=e["body"].encode() or None)
q.add_header("Authorization", "Bearer " + e["token"])
q.add_header("User-Agent", "gpujob")
q.add_header("Content-Type", "application/json")
r.urlopen(q, timeout=20)'
    fi
}
"""

# Where the image's python3 is not one that a login finds (conda's in /opt), the agent still needs one.
_PYTHON = """\
python=$(command -v python3 || echo /opt/conda/bin/python3)
(PATH=/usr/local/bin:/usr/bin:/bin && command -v python3 >/dev/null 2>&1) || ln -sf "$python" /usr/local/bin/python3
"""

_SSHD = """\
mkdir -p /root/.ssh /run/sshd && chmod 700 /root /root/.ssh
printf '%s\\n' "$GPUJOB_PUBLIC_KEY" >>/root/.ssh/authorized_keys && chmod 600 /root/.ssh/authorized_keys
if ! command -v sshd >/dev/null 2>&1 && [ ! -x /usr/sbin/sshd ]; then
    if command -v apt-get >/dev/null 2>&1; then
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qqy --no-install-recommends openssh-server
    elif command -v apk >/dev/null 2>&1; then apk add --no-cache openssh-server
    elif command -v dnf >/dev/null 2>&1; then dnf install -qy openssh-server
    elif command -v yum >/dev/null 2>&1; then yum install -qy openssh-server
    fi
fi
sed -i 's/^root:![^:]*:/root:*:/' /etc/shadow # without PAM, sshd lets nobody in whose password is locked
key=/etc/ssh/gpujob_host_key
rm -f "$key" "$key.pub"
if [ -n "${GPUJOB_HOST_KEY:-}" ]; then (umask 077 && printf '%s\\n' "$GPUJOB_HOST_KEY" >"$key")
else ssh-keygen -q -t ed25519 -N '' -f "$key"; fi
sshd=$(command -v sshd || echo /usr/sbin/sshd)
"$sshd" -p 22 -h "$key" -o PasswordAuthentication=no -o PermitRootLogin=prohibit-password -o UsePAM=no \\
    -o ClientAliveInterval=30
"""


def end_script(request: str, names: tuple[str, ...]) -> str:
    """A script for sh that asks the cloud to end the machine it runs on.

    `request` is shell that calls `ask METHOD URL TOKEN [JSON]` with the variables `names`, which the cloud gave to the
    container's first process.
    """
    return "#!/bin/sh\n" + _FROM_PID_1.replace("NAMES", " ".join(names)) + _REQUEST + request.strip() + "\n"


def arm(end: str, *, deadline: datetime, now: datetime) -> str:
    """Shell that leaves `end` at END and a process behind that runs it from the deadline on, until the machine is gone.

    The deadline is reached by the machine's clock or by the time that has passed, whichever is first: a wrong clock
    must not make a machine immortal.
    """
    seconds = max(0, int((deadline - now).total_seconds()))
    return f"""\
mkdir -p "{DIRECTORY}" && chmod 700 "{DIRECTORY}"
printf '%s' {shlex.quote(end)} >"{END}.new" && mv -f "{END}.new" "{END}"
(
    trap '' HUP
    passed() {{ cut -d. -f1 /proc/uptime 2>/dev/null || date +%s; }}
    since=$(passed)
    while [ "$(date +%s)" -lt {int(deadline.timestamp())} ] && [ $(($(passed) - since)) -lt {seconds} ]; do
        sleep 5
    done
    while :; do sh "{END}"; sleep 10; done
) >"{DIRECTORY}/switch.log" 2>&1 </dev/null &
[ -n "${{GPUJOB_MACHINE_HOME:-}}" ] || {{
{_PYTHON}}}
"""


def start_script(end: str, *, deadline: datetime, now: datetime) -> str:
    """The whole start command: the switch, the SSH server, and then nothing. Takes its keys from the environment."""
    server = f'[ -n "${{GPUJOB_MACHINE_HOME:-}}" ] || {{\n{_SSHD}}}'
    return "\n".join((arm(end, deadline=deadline, now=now), server, "while :; do sleep 3600 & wait $!; done", ""))


def environment(public_key: str, host_key: str) -> Mapping[str, str]:
    """What `start_script` reads. The host key is this machine's alone."""
    keys = {"GPUJOB_PUBLIC_KEY": public_key, "PUBLIC_KEY": public_key}
    return {**keys, "GPUJOB_HOST_KEY": host_key} if host_key else keys
