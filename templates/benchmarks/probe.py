"""What this machine really does: matrices, memory, copies, disk and CPU, beside what the GPU's data sheet promises.

A machine that is throttled, shared, mislabelled or broken looks like any other until somebody pays for a long job on
it. What is far below its promise is called suspicious; --strict makes that an exit code.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
import urllib.request
from pathlib import Path

import compute
import datasheets
import disk
import options as command_line
import torch
from datasheets import Findings
from machine import Machine, choose, cpu_name, nvidia_smi, set_arithmetic
from reporting import Report
from timing import Plan

GIB = 1024**3
LEAST_OF_CORES = 0.3  # of what as many cores as one would do; clocks fall, and two CPUs may be one core
LEAST_OF_MEMORY = 0.9


def main() -> int:
    options = parse()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        command_line.refuse("the probe looks at one GPU after the other by itself: start it with python3, not torchrun")
    device = choose(options.device, None)
    set_arithmetic(tf32=False, seed=options.seed)
    report = Report(os.environ.get("GPUJOB_METRICS"))
    findings = Findings(report, 0.0 if options.smoke else options.least)
    report.say(f"probe: PyTorch {torch.__version__}" + (" (smoke: figures of no worth)" if options.smoke else ""))
    if device.type == "cuda":
        look_at_gpus(device, findings, options)
    look_at_cpu(findings, options, also_as_device=device.type == "cpu")
    look_at_disk(findings, options)
    if options.url:
        look_at_network(options.url, findings)
    for suspicion in findings.suspicions:
        report.say(f"suspicious: {suspicion}")
    report.measured("suspicious", len(findings.suspicions), "findings")
    return 1 if options.strict and findings.suspicions else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    command_line.add_machine(parser)
    parser.add_argument("--least", type=command_line.amount, default=0.6, metavar="SHARE",
                        help="of a data sheet's figure, below which it is suspicious; default: 0.6")  # fmt: skip
    parser.add_argument("--strict", action="store_true", help="exit with 1 when something is suspicious")
    parser.add_argument("--disk-folder", type=Path, default=Path(), help="whose disk; default: this one")
    parser.add_argument("--disk-gib", type=command_line.amount, metavar="N", help="size of the file; default: 4")
    parser.add_argument("--url", help="something large over http or https: how fast it comes, for 10 seconds at most")
    options = parser.parse_args()
    if options.url and not options.url.startswith(("http://", "https://")):
        parser.error(f"--url {options.url}: write http:// or https://")
    if not options.disk_folder.is_dir():
        parser.error(f"--disk-folder {options.disk_folder}: there is no such folder")
    return options


def plan(options: argparse.Namespace) -> Plan:
    return Plan(warmup=2, windows=2, seconds=0.02) if options.smoke else Plan(warmup=5, windows=3, seconds=1.0)


def look_at_gpus(device: torch.device, findings: Findings, options: argparse.Namespace) -> None:
    """Every GPU, or the one that was named; of several the slowest counts."""
    named = options.device and ":" in options.device
    every = [device] if named else [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    figures = [look_at_gpu(Machine(each), findings, options) for each in every]
    if len(every) > 1:
        findings.report.say(f"of {len(every)} GPUs, the slowest figures count")
    for name in figures[0]:
        findings.report.recorded(name, min(each[name] for each in figures if name in each))


def look_at_gpu(machine: Machine, findings: Findings, options: argparse.Namespace) -> dict[str, float]:
    """The figures by their names, shown beside those of the data sheet."""
    torch.cuda.set_device(machine.device)
    sheet = datasheets.find(machine.name)
    memory = torch.cuda.get_device_properties(machine.device).total_memory
    findings.report.say(f"GPU {machine.device.index}: {machine.name}, {memory / GIB:.1f} GiB")
    findings.report.say(f"data sheet: {sheet.source} {sheet.note}" if sheet else "data sheet: none in the table")
    if sheet and memory < LEAST_OF_MEMORY * sheet.memory_gb * 1e9:
        findings.doubt(f"{machine.name} has {memory / 1e9:.0f} GB of memory where {sheet.memory_gb:g} GB are promised")
    figures = multiply(machine, findings, options, sheet)
    rate = compute.memory_gb_per_second(machine, GIB // 64 if options.smoke else GIB, plan(options))
    figures["memory_gb_per_second"] = rate
    findings.compare("memory_gb_per_second", rate, "GB/s", sheet.memory_gb_per_second if sheet else None)
    for name, rate in compute.copies(machine, GIB // 64 if options.smoke else GIB // 4, plan(options)).items():
        promised = sheet.link_gb_per_second if sheet and "pinned" in name else None
        findings.compare(name, rate, "GB/s", promised)
        figures[name] = rate
    state = nvidia_smi("--query-gpu=name,power.limit,power.default_limit,clocks.sm,clocks.max.sm,temperature.gpu,"
                       "pcie.link.gen.max,pcie.link.width.current", "--format=csv")  # fmt: skip
    findings.report.say(state or "nvidia-smi does not answer")
    torch.cuda.empty_cache()
    return figures


def multiply(
    machine: Machine, findings: Findings, options: argparse.Namespace, sheet: datasheets.Datasheet | None
) -> dict[str, float]:
    """TFLOP/s in every kind of number that the device has."""
    side = 512 if options.smoke else 8192 if machine.on_gpu else 2048
    figures = {}
    for numbers in compute.number_types(machine.device):
        name = f"{numbers}_tflops"
        figures[name], error = compute.matrix_tflops(machine, numbers, side, plan(options))
        findings.compare(name, figures[name], "TFLOP/s", sheet.tflops.get(numbers) if sheet else None)
        if error > compute.WRONG[numbers]:
            findings.doubt(f"{machine.name} computes wrong numbers: a product in {numbers} is off by {error:.2g}")
    return figures


def look_at_cpu(findings: Findings, options: argparse.Namespace, *, also_as_device: bool) -> None:
    """One core, all that this process may use, and main memory. `also_as_device`: it is what the job would run on."""
    report = findings.report
    machine = Machine(torch.device("cpu"))
    count = usable_cpus()
    report.say(f"CPU: {cpu_name()}, {count} of {os.cpu_count()} CPUs to be used")
    side = 256 if options.smoke else 1024
    rates = []
    for threads, whose in ((1, "one_cpu"), (count, "all_cpus")):
        torch.set_num_threads(threads)
        rates.append(1000 * compute.matrix_tflops(machine, "fp32", side, plan(options))[0])
        report.measured(f"fp32_gflops_{whose}", rates[-1], "GFLOP/s")
    if not options.smoke and rates[1] < LEAST_OF_CORES * count * rates[0]:
        findings.doubt(f"{count} CPUs do only {rates[1] / rates[0]:.1f} times the work of one: others may use them")
    rate = compute.memory_gb_per_second(machine, GIB // 64 if options.smoke else GIB, plan(options))
    report.measured("host_memory_gb_per_second", rate, "GB/s", "read and written, both counted")
    if also_as_device:
        for name, figure in {**multiply(machine, findings, options, None), "memory_gb_per_second": rate}.items():
            report.recorded(name, figure)


def usable_cpus() -> int:
    """What this process is let: by its affinity, and by the share that its container has of the time."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(allowed, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):
        return allowed


def look_at_disk(findings: Findings, options: argparse.Namespace) -> None:
    wanted = int((options.disk_gib or (1 / 64 if options.smoke else 4)) * GIB)
    size = disk.room(options.disk_folder, wanted)
    on = disk.kind(options.disk_folder)
    findings.report.say(f"disk: a file of {size / GIB:.3g} GiB on {on or 'a file system that is not told'}")
    if size == 0:
        findings.report.say("disk: not measured, too little is free")
        return
    speed = disk.measure(options.disk_folder, size)
    note = "main memory, not a disk" if on in ("tmpfs", "ramfs") else "until fsync"
    findings.report.measured("disk_write_mb_per_second", speed.write / 1e6, "MB/s", note)
    if speed.read_is_the_disks and on not in ("tmpfs", "ramfs"):
        findings.report.measured("disk_read_mb_per_second", speed.read / 1e6, "MB/s", "not from the page cache")
    else:
        findings.report.say(f"disk: read at {speed.read / 1e6:,.0f} MB/s, likely from main memory: no figure of a disk")


def look_at_network(url: str, findings: Findings) -> None:
    """One connection to one server, which may be the slower end."""
    received = 0
    began = time.perf_counter()
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            began = time.perf_counter()  # looking up the name and connecting are another matter
            while time.perf_counter() - began < 10 and (part := answer.read(2**20)):
                received += len(part)
    except OSError as error:
        findings.doubt(f"network: cannot get {url}: {error}")
        return
    seconds = time.perf_counter() - began
    findings.report.measured("network_mbit_per_second", received * 8 / seconds / 1e6, "Mbit/s", f"{received:,} bytes")


if __name__ == "__main__":
    sys.exit(main())
